"""`lmk keys find`: which local keys stand in files, whose they are, and whether they still count.

A whole key is told by its checksum and proved against the store's hash. What is derived from one (a
token, a key file) is told by its form, and a masked one, as our own log has it, by its id. Files of
any size are read in pieces; gzip is unpacked.
"""

from __future__ import annotations

import codecs
import gzip
import hmac
import os
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, Literal

from llamakey_addon import keys, tokens
from llamakey_addon.cli.keys import open_keys, print_json, state
from llamakey_addon.cli.table import Cell, Column, print_table
from llamakey_addon.serve import show as showing
from llamakey_addon.store import KeyRow

_PIECE_BYTES: Final = 1 << 20
_PLACES: Final = 100
"""So many lines of a file are named for each key; the rest is counted."""
_GZIP: Final = b"\x1f\x8b"
_UTF_16: Final = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}

#: More than the longest of what is looked for.
_LONGEST: Final = 512

type Form = Literal["whole", "token", "key file", "masked"]

_COLUMNS: Final = (
    Column("Where"),
    Column("Key", drop=1, whole=True),
    Column("Form", whole=True),
    Column("Name"),
    Column("User", drop=2),
    Column("State"),
)


@dataclass(frozen=True, slots=True)
class Spot:
    """Where something of a key stands."""

    at: int
    end: int
    id: str
    form: Form
    digest: bytes = b""
    """Of a whole key."""
    ends_s: float | None = None
    """Of a token."""


@dataclass(slots=True)
class Found:
    """A key in a file, in one form."""

    file: str
    spot: Spot
    """The first."""
    lines: list[int] = field(default_factory=list)
    count: int = 0


@dataclass(frozen=True, slots=True)
class _Known:
    """What the store says of a key that was found."""

    row: KeyRow | None
    """None for one that is not of this store."""
    valid: bool
    """Whether somebody can call by what stands there."""
    state: str


def find(files: Sequence[Path], *, as_json: bool, config: Path | None) -> int:
    """Print what is found; 1 when a valid key is among it, 2 when a file can't be read, else 0."""
    found: list[Found] = []
    unread = False
    for name in (name for path in files for name in _names(path)):
        try:
            with _open(name) as file:
                found += search(name, file)
        except (OSError, EOFError, zlib.error) as error:
            unread = True
            why = error.strerror if isinstance(error, OSError) and error.strerror else error
            showing.error(f"{name}: {why}", sys.stderr)
    with open_keys(config) as store:
        rows = store.keys()
    by_id = {row.id: row for row in rows}
    now_s = time.time()
    known = [_known(each, by_id, now_s) for each in found]
    if as_json:
        print_json([_record(each, its) for each, its in zip(found, known, strict=True)])
    elif found:
        cells = [_cells(each, its) for each, its in zip(found, known, strict=True)]
        print_table(_COLUMNS, cells, sys.stdout, header=False)
    living = sorted({its.row.name for its in known if its.valid and its.row is not None})
    if not as_json:
        _conclude(found, living)
    if living:
        return 1
    return 2 if unread else 0


def search(name: str, file: IO[bytes]) -> list[Found]:
    """Keys in a file, each once in each form, in the order in which they stand there."""
    found: dict[object, Found] = {}
    line = 1
    rest = b""
    for piece in _text(file):
        last = not piece
        data = rest + piece
        # A key that begins near the end may go on in the next piece.
        limit = len(data) if last else max(0, len(data) - _LONGEST)
        counted = 0
        for spot in spots(data):
            if spot.at >= limit:
                break
            line += data.count(b"\n", counted, spot.at)
            counted = spot.at
            key = (spot.id, spot.form, spot.digest, spot.ends_s)
            each = found.setdefault(key, Found(name, spot))
            each.count += 1
            if len(each.lines) < _PLACES and line not in each.lines[-1:]:
                each.lines.append(line)
            limit = max(limit, spot.end)
        line += data.count(b"\n", counted, limit)
        rest = data[limit:]
    return list(found.values())


def spots(data: bytes) -> list[Spot]:
    """Keys and what is derived from them, in their order."""
    derived = {
        each.at: Spot(
            each.at,
            each.end,
            each.key_id,
            "key file" if each.ends_s is None else "token",
            ends_s=each.ends_s,
        )
        for each in tokens.traces(data)
    }
    own = [
        Spot(each.at, each.end, each.id, "whole", each.parsed.digest)
        if each.parsed is not None
        else Spot(each.at, each.end, each.id, "masked")
        for each in keys.traces(data)
        if each.at not in derived  # a token begins as a key does
    ]
    return sorted([*own, *derived.values()], key=lambda spot: spot.at)


def _text(file: IO[bytes]) -> Iterator[bytes]:
    """The file in pieces, at last an empty one; UTF-16 as UTF-8."""
    piece = file.read(_PIECE_BYTES)
    coding = next((name for mark, name in _UTF_16.items() if piece.startswith(mark)), "")
    decoder = codecs.getincrementaldecoder(coding)("replace") if coding else None
    while piece:
        text = piece if decoder is None else decoder.decode(piece).encode("utf-8", "replace")
        if text:
            yield text
        piece = file.read(_PIECE_BYTES)
    yield b""


def _names(path: Path) -> Iterator[str]:
    """The files that a path stands for."""
    if str(path) == "-" or not path.is_dir():
        yield str(path)
        return
    for folder, folders, names in os.walk(path):
        folders.sort()
        children = (Path(folder, name) for name in sorted(names))
        yield from (str(each) for each in children if each.is_file() and not each.is_symlink())


@contextmanager
def _open(name: str) -> Iterator[IO[bytes]]:
    if name == "-":
        yield sys.stdin.buffer
        return
    with open(name, "rb") as file:
        if file.peek(2)[:2] != _GZIP:
            yield file
            return
        with gzip.GzipFile(fileobj=file) as unpacked:
            yield unpacked  # type: ignore[misc]


# --- what is said of it ---------------------------------------------------------------------------


def _known(found: Found, rows: dict[str, KeyRow], now_s: float) -> _Known:
    spot = found.spot
    row = rows.get(spot.id)
    whole = spot.form == "whole"
    if row is None or (whole and not hmac.compare_digest(spot.digest, row.digest)):
        return _Known(None, False, "unknown")
    valid = row.ended(now_s) is None and spot.form != "masked"
    return _Known(row, valid and (spot.ends_s is None or spot.ends_s > now_s), state(row, now_s))


def _cells(found: Found, known: _Known) -> list[Cell]:
    style = "bold red" if known.valid else "dim" if known.row is None else ""
    more = f" and {found.count - 1} more" if found.count > 1 else ""
    name, user = ("-", "-") if known.row is None else (known.row.name, known.row.user)
    return [
        Cell(f"{found.file}:{found.lines[0]}{more}", style),
        Cell(f"{keys.MARK}{found.spot.id}", style),
        Cell(found.spot.form, style),
        Cell(name, style),
        Cell(user, style),
        Cell(known.state, style),
    ]


def _record(found: Found, known: _Known) -> dict[str, Any]:
    row = known.row
    return {
        "file": found.file,
        "lines": found.lines,
        "count": found.count,
        "id": found.spot.id,
        "form": found.spot.form,
        "name": row and row.name,
        "user": row and row.user,
        "valid": known.valid,
        "state": "unknown" if row is None else row.ended(time.time()) or "valid",
    }


def _conclude(found: Sequence[Found], living: Sequence[str]) -> None:
    if living:
        names = ", ".join(living)
        count = "A valid key stands" if len(living) == 1 else f"{len(living)} valid keys stand"
        showing.prose(
            f"{count} there: {names}. Who reads it can call as its user: "
            "lmk keys rotate NAME --overlap 0, or lmk keys revoke NAME.",
            sys.stderr,
        )
    elif found:
        showing.prose("No valid key stands there.", sys.stderr)
    else:
        showing.prose("No local key stands there.", sys.stderr)
