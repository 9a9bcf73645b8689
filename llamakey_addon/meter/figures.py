"""From a provider's usage object to counts, by tables of paths. Pure; numbers that make no sense
are left out rather than believed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
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


class Kind(NamedTuple):
    """One count of a usage object."""

    name: str
    paths: tuple[Path, ...]
    """The first that holds a number is taken."""
    scale: Decimal = _ONE
    """Multiplies the number; a fraction that is left is rounded up."""


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


def counts_of(usage: Mapping[str, Any], kinds: Iterable[Kind]) -> dict[str, int]:
    """The counts that `usage` holds. Kinds of one name are added up."""
    counts: dict[str, int] = {}
    for name, paths, scale in kinds:
        for way in paths:
            first = way[0]
            if type(first) is str:
                if first not in usage:
                    continue
                if len(way) == 1:
                    value = usage[first]
                    if type(value) is int and scale is _ONE and 0 <= value <= MOST:
                        counts[name] = counts.get(name, 0) + value
                        break
            elif first[0] not in usage:
                continue
            count = amount(find(usage, way), scale)
            if count is not None:
                counts[name] = counts.get(name, 0) + count
                break
    return counts


def merge(into: dict[str, Any], usage: Mapping[str, Any]) -> None:
    """Later figures replace earlier ones; what a later object leaves out or has as null stays."""
    for name, value in usage.items():
        if value is not None:
            into[name] = value
