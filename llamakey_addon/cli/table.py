"""Tables of the owner's commands: fitted to a terminal's width; elsewhere one plain line a row,
with every column and never wrapped, so that it can be searched and cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TextIO

from llamakey_addon.journal import escape
from llamakey_addon.serve import show

if TYPE_CHECKING:
    from rich.text import Text


_FOLDED: Final = 28
"""So much room is wanted for what can be broken into lines."""
_BETWEEN: Final = 3


@dataclass(frozen=True, slots=True)
class Column:
    title: str
    drop: int = 0
    """Where a terminal has no room for all, the column with the highest goes first; 0 stays."""
    right: bool = False
    whole: bool = False
    """Never broken into lines."""
    picture: bool = False
    """For terminals alone."""


@dataclass(frozen=True, slots=True)
class Cell:
    text: str
    """May have several lines; elsewhere than on a terminal `; ` is between them."""
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
    shown = [(index, column) for index, column in enumerate(columns) if not column.picture]
    titles: list[Row] = [[column.title for column in columns]] if header else []
    all_rows = [*titles, *rows, *([] if total is None else [total])]
    lines = [
        [escape(_cell(row[index]).text.replace("\n", "; ")) for index, _ in shown]
        for row in all_rows
    ]
    widths = [max(map(len, texts)) for texts in zip(*lines, strict=True)]
    for line in lines:
        cells = (
            f"{text:>{width}}" if column.right else f"{text:<{width}}"
            for text, width, (_, column) in zip(line, widths, shown, strict=True)
        )
        show.say("  ".join(cells).rstrip(), out)


def _rich(columns: Sequence[Column], rows: Sequence[Row], out: TextIO, total: Row | None) -> None:
    from rich import box
    from rich.table import Table

    console = show.console(out)
    shown = _fitting(columns, [*rows, *([] if total is None else [total])], console.width)
    table = Table(
        box=box.SIMPLE,
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


def _fitting(columns: Sequence[Column], rows: Sequence[Row], width: int) -> list[int]:
    """The columns that a terminal has room for."""

    def wanted(index: int) -> int:
        column = columns[index]
        texts = [
            column.title,
            *(line for row in rows for line in _cell(row[index]).text.split("\n")),
        ]
        longest = max(map(len, texts))
        return longest if column.whole else min(longest, _FOLDED)

    shown = list(range(len(columns)))
    while sum(wanted(index) + _BETWEEN for index in shown) - _BETWEEN > width:
        droppable = [index for index in shown if columns[index].drop]
        if not droppable:
            break
        shown.remove(max(droppable, key=lambda index: columns[index].drop))
    return shown


def _cell(cell: Cell | str) -> Cell:
    return cell if isinstance(cell, Cell) else Cell(cell)


def _plain(cell: Cell | str) -> str:
    return escape(_cell(cell).text.replace("\n", "; "))


def _text(cell: Cell | str) -> Text:
    from rich.text import Text

    cell = _cell(cell)
    return Text("\n".join(map(escape, cell.text.split("\n"))), style=cell.style)
