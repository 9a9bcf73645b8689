"""Tables of the owner's commands: fitted to a terminal's width; elsewhere one plain line a row,
with every column and never wrapped, so that it can be searched and cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from llamakey_addon.journal import escape
from llamakey_addon.serve import show

if TYPE_CHECKING:
    from rich.text import Text


@dataclass(frozen=True, slots=True)
class Column:
    title: str
    least: int = 0
    """Width of a terminal from which on there is room for it."""
    right: bool = False
    whole: bool = False
    """Never broken into lines."""


@dataclass(frozen=True, slots=True)
class Cell:
    text: str
    style: str = ""
    """Of rich's, for terminals."""


type Row = Sequence[Cell | str]


def print_table(
    columns: Sequence[Column],
    rows: Sequence[Row],
    out: TextIO,
    *,
    header: bool = True,
    total: Row | None = None,
) -> None:
    """Print rows under their columns, `total` below a line.

    Arguments:
        header: whether the titles stand in plain output too.
    """
    if show.is_terminal(out):
        _rich(columns, rows, out, total)
        return
    lines = [[_cell(cell).text for cell in row] for row in rows]
    if header:
        lines.insert(0, [column.title for column in columns])
    if total is not None:
        lines.append([_cell(cell).text for cell in total])
    lines = [[escape(text) for text in line] for line in lines]
    widths = [max(map(len, texts)) for texts in zip(*lines, strict=True)]
    for line in lines:
        cells = (
            f"{text:>{width}}" if column.right else f"{text:<{width}}"
            for text, width, column in zip(line, widths, columns, strict=True)
        )
        show.say("  ".join(cells).rstrip(), out)


def _rich(columns: Sequence[Column], rows: Sequence[Row], out: TextIO, total: Row | None) -> None:
    from rich import box
    from rich.table import Table

    console = show.console(out)
    shown = [index for index, column in enumerate(columns) if console.width >= column.least]
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 2, 0, 0),
        show_edge=False,
        pad_edge=False,
        show_footer=total is not None,
    )
    for index in shown:
        column = columns[index]
        table.add_column(
            column.title,
            justify="right" if column.right else "left",
            overflow="fold",
            no_wrap=column.whole,
            footer="" if total is None else _text(total[index]),
        )
    for row in rows:
        table.add_row(*(_text(row[index]) for index in shown))
    console.print(table)


def _cell(cell: Cell | str) -> Cell:
    return cell if isinstance(cell, Cell) else Cell(cell)


def _text(cell: Cell | str) -> Text:
    from rich.text import Text

    cell = _cell(cell)
    return Text("\n".join(map(escape, cell.text.split("\n"))), style=cell.style)
