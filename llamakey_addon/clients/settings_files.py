"""A program's own settings with ours laid over them, as JSON or TOML.

The program's file is read and never written: what comes of it goes to a file of ours.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time
from typing import Any, Final

from llamakey_addon.errors import LlamaKeyError

type Table = Mapping[str, Any]

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")


class SettingsUnreadable(LlamaKeyError):
    """A program's settings are there and can't be read; they can't be carried over, then."""

    def __init__(self, name: str, why: object) -> None:
        super().__init__(f"{name} can't be read ({why}): mend it, or move it away.")


def read(text: str, kind: str, name: str) -> dict[str, Any]:
    """The settings in a text.

    Arguments:
        kind: `json` or `toml`.
        name: where it is from, for people.

    Raises SettingsUnreadable.
    """
    try:
        found = tomllib.loads(text) if kind == "toml" else json.loads(text)
    except ValueError as error:
        raise SettingsUnreadable(name, error) from None
    if not isinstance(found, dict):
        raise SettingsUnreadable(name, "it is no object")
    return found


def write(table: Table, kind: str) -> str:
    """The text of settings that `read` gives back."""
    if kind == "toml":
        return "\n".join(_toml(table, ())) + "\n"
    return json.dumps(table, indent=2, ensure_ascii=False) + "\n"


def over(below: Table, above: Table) -> dict[str, Any]:
    """`above` laid over `below`: tables by key, everything else as a whole."""
    result = dict(below)
    for name, value in above.items():
        known = result.get(name)
        both = isinstance(known, Mapping) and isinstance(value, Mapping)
        result[name] = over(known, value) if both else value  # type: ignore[arg-type]
    return result


def joined(one: Table, other: Table) -> dict[str, Any]:
    """Both together, lists one after the other."""
    result = dict(one)
    for name, value in other.items():
        known = result.get(name)
        if isinstance(known, Mapping) and isinstance(value, Mapping):
            result[name] = joined(known, value)
        elif isinstance(known, list) and isinstance(value, list):
            result[name] = [*known, *value]
        else:
            result[name] = value
    return result


# --- TOML, which the standard library reads and does not write ------------------------------------


def _toml(table: Table, path: tuple[str, ...]) -> Iterator[str]:
    """Lines of a table: its values, then the tables within, each under its header."""
    inner = [(name, value) for name, value in table.items() if isinstance(value, Mapping)]
    values = [(name, value) for name, value in table.items() if not isinstance(value, Mapping)]
    if path and (values or not inner):
        yield f"[{'.'.join(map(_key, path))}]"
    for name, value in values:
        yield f"{_key(name)} = {_value(value)}"
    for name, value in inner:
        yield from _toml(value, (*path, name))


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _text(name)


def _text(text: str) -> str:
    # JSON's escapes are TOML's, but for DEL, which TOML wants escaped
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return _text(value)
        case float() if math.isnan(value) or math.isinf(value):
            return str(value)
        case int() | float():
            return repr(value)
        case datetime() | date() | time():
            return value.isoformat()
        case list():
            return f"[{', '.join(map(_value, value))}]"
        case Mapping():
            pairs = (f"{_key(name)} = {_value(each)}" for name, each in value.items())
            return f"{{{', '.join(pairs)}}}"
    raise TypeError(f"{type(value).__name__} is nothing of TOML's")
