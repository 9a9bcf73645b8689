"""From a provider's usage object to counts, by tables of paths. Pure; numbers that make no sense
are left out rather than believed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal
from typing import Any, Final, NamedTuple

type Step = str | tuple[str, str, str]
type Path = tuple[Step, ...]
"""Names of members; `(list, member, value)` is the first item of a list with that member."""

MOST: Final = 10**15
_STEP: Final = re.compile(r"([^.\[\]]+)(?:\[([^=\]]+)=([^\]]*)\])?(?:\.|$)")


def path(text: str) -> Path:
    """`a.b[type=x].c` as a path."""
    steps: list[Step] = []
    for name, member, value in _STEP.findall(text):
        steps.append((name, member, value) if member else name)
    return tuple(steps)


_ONE: Final = Decimal(1)
_DECODER: Final = json.JSONDecoder()
_KEPT: Final = 256
_MEMBERS_KEPT: Final = 32
_NAMES_KEPT: Final = 1024


class Kind(NamedTuple):
    """One count of a usage object."""

    name: str
    paths: tuple[Path, ...]
    """The first that holds a number is taken."""
    scale: Decimal = _ONE
    """Multiplies the number; a fraction that is left is rounded up."""


_QUESTIONS: dict[tuple[int, tuple[str, ...]], tuple[tuple[Kind, ...], tuple[Kind, ...]]] = {}
"""See `_in_question`. With the kinds, so that no others can come to have their place in memory."""


def kind(name: str, *paths: str, scale: int | str = 1) -> Kind:
    return Kind(name, tuple(map(path, paths)), _ONE if scale == 1 else Decimal(scale))


def parsed(text: bytes) -> Any:
    """A JSON document. Raises ValueError, RecursionError."""
    try:
        words = text.decode()
        found, end = _DECODER.raw_decode(words)
    except ValueError:
        return json.loads(text)  # blanks before it, another encoding
    return found if end == len(words) else json.loads(text)


def find(document: object, way: Path) -> Any:
    """What stands at `way`; None where there is nothing."""
    for step in way:
        if type(document) is not dict and not isinstance(document, Mapping):
            return None
        if isinstance(step, str):
            document = document.get(step)
            continue
        name, member, value = step
        items = document.get(name)
        document = None
        for item in items if isinstance(items, list) else ():
            if isinstance(item, Mapping) and item.get(member) == value:
                document = item
                break
    return document


def amount(value: object, scale: Decimal = _ONE) -> int | None:
    """A number as a count; None for what is none, is negative, or beyond all measure."""
    if type(value) is int:
        if scale is _ONE or scale == 1:
            return value if 0 <= value <= MOST else None
        number = Decimal(value)
    elif type(value) is float:
        number = Decimal(repr(value))
    elif isinstance(value, Decimal):
        number = value
    else:
        return None
    if not number.is_finite() or number < 0 or number > MOST:
        return None
    count = int((number * scale).to_integral_value(ROUND_CEILING))
    return count if count <= MOST * 1000 else None


def counts_of(usage: Mapping[str, Any], kinds: tuple[Kind, ...]) -> dict[str, int]:
    """The counts that `usage` holds. Kinds of one name are added up."""
    counts: dict[str, int] = {}
    for name, paths, scale in _in_question(tuple(usage), kinds):
        for way in paths:
            if len(way) == 1 and type(way[0]) is str:
                value = usage[way[0]]
                if type(value) is int and scale is _ONE and 0 <= value <= MOST:
                    counts[name] = counts.get(name, 0) + value
                    break
            count = amount(find(usage, way), scale)
            if count is not None:
                counts[name] = counts.get(name, 0) + count
                break
    return counts


def _in_question(names: tuple[str, ...], kinds: tuple[Kind, ...]) -> tuple[Kind, ...]:
    """The kinds that an object of these members may hold, with the paths that begin with one of
    them. A provider's usage has the same members each time."""
    place = (id(kinds), names)
    found = _QUESTIONS.get(place)
    if found is None or found[0] is not kinds:
        among = set(names)
        begun = (
            Kind(name, tuple(way for way in paths if _outermost(way) in among), scale)
            for name, paths, scale in kinds
        )
        found = (kinds, tuple(kind for kind in begun if kind.paths))
        if len(names) <= _MEMBERS_KEPT and sum(map(len, names)) <= _NAMES_KEPT:
            if len(_QUESTIONS) >= _KEPT:
                _QUESTIONS.clear()
            _QUESTIONS[place] = found
    return found[1]


def _outermost(way: Path) -> str:
    return way[0] if isinstance(way[0], str) else way[0][0]


def merge(into: dict[str, Any], usage: Mapping[str, Any]) -> None:
    """Later figures replace earlier ones; what a later object leaves out or has as null stays."""
    for name, value in usage.items():
        if value is not None:
            into[name] = value
