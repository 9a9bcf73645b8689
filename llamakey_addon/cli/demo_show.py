"""What `lmk demo` shows: what the client sent, what the provider got, what the log holds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TextIO

from llamakey_addon import keys
from llamakey_addon.cli.demo_parts import ANSWER, Seen
from llamakey_addon.journal import escape
from llamakey_addon.serve import show as showing

if TYPE_CHECKING:
    from rich.console import RenderableType

    from llamakey_addon.cli.demo import Seens

#: Three columns need so much; below, the panels stand one above the other.
_COLUMNS = 120
#: Headers that tell something; of the others the number is told.
_TELLING = ("host", "authorization", "content-type", "user-agent", "accept", "content-length")


def show(program: str, seen: Seens, out: TextIO) -> None:
    """Print program, environment and the three views; panels on a terminal, else plain lines."""
    views = [
        ("What the client sent", _request(seen.client)),
        ("What the provider got", _request(seen.provider)),
        ("What the log holds", _log(seen.log)),
    ]
    call = [*seen.environment, "", *program.rstrip().splitlines()]
    if not showing.is_terminal(out):
        for title, lines in (("The client", call), ("It printed", seen.printed), *views):
            showing.say(f"\n== {title}", out)
            showing.say("\n".join(lines), out)
        showing.say(out=out)
        return
    _panels(program, views, seen, out)


def verdict(seen: Seens, out: TextIO) -> bool:
    """Print what was checked; whether anything failed."""
    from llamakey_addon.cli.demo import REAL_KEY

    real, local = REAL_KEY, seen.local_key
    got = [f"{request.headers}{request.body!r}" for request in seen.provider]
    checks = {
        "The client printed both answers.": [line.strip() for line in seen.printed] == [ANSWER] * 2,
        "The client sent its local key, and never held the real one.": local.encode() in seen.sent
        and real.encode() not in seen.sent,
        "The provider got the real key, and never saw the local one.": len(got) > 0
        and all(real in text and local not in text for text in got),
        "The log has a line for each request, and no key in any.": len(seen.log) == len(got)
        and real not in str(seen.log)
        and local not in str(seen.log),
    }
    for text, good in checks.items():
        showing.prose(f"{'ok' if good else 'FAILED'}: {text}", out, "green" if good else "red")
    return not all(checks.values())


def _request(requests: list[Seen]) -> list[str]:
    """The first request in full, the local key masked, and a word about the others."""
    if not requests:
        return ["(nothing)"]
    first = requests[0]
    headers = [(name, value) for name, value in first.headers if name.lower() in _TELLING]
    lines = [first.line, *(f"{name}: {value}" for name, value in headers)]
    if more := len(first.headers) - len(headers):
        lines.append(f"(and {more} more header{'s' if more > 1 else ''})")
    lines += ["", first.body.decode("utf-8", "replace")]
    if len(requests) > 1:
        lines += ["", f'(and {len(requests) - 1} more, with "stream": true)']
    return [escape(keys.redact(line)) for line in lines]


def _log(records: Iterable[dict[str, object]]) -> list[str]:
    shown = ("id", "user", "provider", "method", "path", "model", "status", "total_ms", "end")
    lines: list[str] = []
    for record in records:
        lines += [f"{name}: {record.get(name)}" for name in shown]
        lines.append(f"bytes: {record.get('bytes_up')} up, {record.get('bytes_down')} down")
        lines.append("")
    return lines[:-1]


def _panels(program: str, views: list[tuple[str, list[str]]], seen: Seens, out: TextIO) -> None:
    from rich import box
    from rich.console import Group
    from rich.panel import Panel
    from rich.syntax import Syntax
    from rich.table import Table
    from rich.text import Text

    console = showing.console(out)
    environment = Text("\n".join(seen.environment) + "\n", style="cyan")
    source = Syntax(
        program.rstrip(), "python", theme="ansi_dark", background_color="default", word_wrap=True
    )
    printed = Text("\n" + "\n".join(f"→ {line}" for line in seen.printed), style="green")
    console.print(
        Panel(
            Group(environment, source, printed),
            title="The client",
            box=box.ROUNDED,
            title_align="left",
        )
    )
    panels: list[RenderableType] = [
        Panel(_marked(lines), title=title, title_align="left", box=box.ROUNDED)
        for title, lines in views
    ]
    if console.width < _COLUMNS:
        for panel in panels:
            console.print(panel)
        return
    grid = Table.grid(expand=True)
    for _ in panels:
        grid.add_column(ratio=1)
    grid.add_row(*panels)
    console.print(grid)


def _marked(lines: list[str]) -> RenderableType:
    """The lines, with the credential's in colour."""
    from rich.text import Text

    text = Text(overflow="fold")
    for line in lines:
        style = "bold yellow" if line.lower().startswith("authorization:") else ""
        text.append(f"{line}\n", style=style)
    text.rstrip()
    return text
