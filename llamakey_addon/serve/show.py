"""What a start prints: the providers, the client's environment, and where it serves.

On a terminal a table fitted to its width; elsewhere one plain line a fact, never wrapped, so that
it can be searched. A local key is shown in full on a terminal alone: what is piped ends in logs.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, TextIO

from llamakey_addon.journal import escape
from llamakey_addon.journey import Provider
from llamakey_addon.keys import redact

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_MAX_WIDTH = 140
_COMMAND = re.compile(r"(?<![\w./-])lmk(?= [a-z])")
COMMAND_VARIABLE = "LLAMAKEY_COMMAND"
"""How the command was called, where that is not `lmk`: scripts/lmk tells its own name."""


def command() -> str:
    return os.environ.get(COMMAND_VARIABLE) or "lmk"


def hint(text: str) -> str:
    """A text for the person at the terminal: its `lmk …` as they typed it."""
    return _COMMAND.sub(lambda _: command(), text)


def say(text: str = "", out: TextIO | None = None) -> None:
    """Print lines as they are, to standard output unless told otherwise."""
    (sys.stdout if out is None else out).write(f"{text}\n")


def is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def by_readiness(providers: Iterable[Provider]) -> list[Provider]:
    """Ready ones first, then by id."""
    return sorted(providers, key=lambda provider: (not provider.ready, provider.id))


def key_of(provider: Provider) -> str:
    """Its real key as people may see it, or what would switch it on."""
    if not provider.ready:
        return provider.missing
    if provider.recipe is not None:
        return f"made from {provider.recipe.source}"
    if provider.secret is None:
        return "needs no key"
    return f"{provider.secret.masked} from {provider.secret.source}"


def providers(providers: Iterable[Provider], out: TextIO) -> None:
    """Print the providers: ready or not, upstream, masked key, what switches them on."""
    rows = by_readiness(providers)
    if is_terminal(out):
        console(out).print(_table(rows, width()))
        return
    cells = [
        (
            provider.id,
            "ready" if provider.ready else "off",
            f"/{provider.prefix}",
            provider.upstream.origin if provider.upstream else "-",
            escape(key_of(provider)),
        )
        for provider in rows
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        line = "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        say(line.rstrip(), out)


def _table(rows: list[Provider], width: int) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    names, upstreams = width >= 118, width >= 96
    table = Table(
        box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False, expand=False
    )
    table.add_column("")
    if names:
        table.add_column("Provider", no_wrap=True)
    table.add_column("Path", no_wrap=True)
    if upstreams:
        table.add_column("Upstream", overflow="fold")
    table.add_column("Key", overflow="fold")
    for provider in rows:
        style = "" if provider.ready else "dim"
        origin = provider.upstream.origin if provider.upstream else provider.entry.upstream
        shown = origin.removeprefix("https://")
        cells = [Text("●", style="green") if provider.ready else Text("○", style="dim")]
        if names:
            cells.append(Text(provider.entry.name, style=style))
        cells.append(Text(f"/{provider.prefix}", style="cyan" if provider.ready else "dim"))
        key = Text(escape(_short(provider)), style=style)
        if upstreams:
            cells.append(Text(shown, style=style))
        elif provider.ready and origin != provider.entry.upstream:
            # Another than the catalogue's: worth a line where there is no column.
            key.append(f"\nat {shown}", style="dim")
        table.add_row(*cells, key)
    return table


def _short(provider: Provider) -> str:
    """`key_of` without what the table's other columns say."""
    return key_of(provider).partition(" (its upstream is")[0]


def environment(lines: str, out: TextIO) -> None:
    """Print the client's environment, lines as they stand in the file; keys masked on a pipe."""
    text = lines if is_terminal(out) else redact(lines)
    # Not through rich: a line that is copied must not be broken.
    say(text.rstrip("\n"), out)


def heading(text: str, out: TextIO) -> None:
    if is_terminal(out):
        console(out).print(text, style="bold", highlight=False)
    else:
        say(text, out)


def prose(text: str, out: TextIO, style: str = "") -> None:
    """Print sentences: broken between words on a terminal, one line elsewhere."""
    text = hint(text)
    if is_terminal(out):
        console(out).print(text, style=style, highlight=False, markup=False, soft_wrap=False)
    else:
        say(escape(text), out)


def warning(text: str, err: TextIO) -> None:
    prose(f"warning: {text}", err, "yellow")


def error(text: str, err: TextIO) -> None:
    prose(f"error: {text}", err, "red")


def short(text: str, most: int) -> str:
    """`text`, cut where it is longer."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def width() -> int:
    """Of the terminal, as far as it is used."""
    return min(_MAX_WIDTH, shutil.get_terminal_size().columns)


def console(out: TextIO) -> Console:
    """A rich console of the terminal's width, which marks nothing up by itself."""
    from rich.console import Console

    return Console(
        file=out,
        width=width(),
        no_color=bool(os.environ.get("NO_COLOR")) or None,
        highlight=False,
        emoji=False,
        markup=False,
    )
