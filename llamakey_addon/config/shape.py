"""What stands in a document, in its types; what does not fit is told with its line."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from llamakey_addon.config.words import nearest
from llamakey_addon.config.yamlfile import Document, Place, hide_keys
from llamakey_addon.errors import ConfigError, Fault


def shaped[P: BaseModel](document: Document, model: type[P]) -> P:
    """The document's settings in their types. Raises ConfigError."""
    try:
        file = model.model_validate(_without_empty(document.data))
    except ValidationError as error:
        found = [_fault(document, model, details) for details in error.errors(include_url=False)]
        # One fault a place, for a union has one for each of its types. Not raised from the error:
        # pydantic's holds what stands in the file.
        faults = {fault.where + fault.message.partition(":")[0]: fault for fault in reversed(found)}
        raise ConfigError(sort_by_line([*document.faults, *reversed(faults.values())])) from None
    if document.faults:
        raise ConfigError(sort_by_line(document.faults))
    return file


def _without_empty(data: dict[str, Any]) -> dict[str, Any]:
    """Sections whose lines are all commented out read as null, and mean their defaults."""
    return {name: value for name, value in data.items() if value is not None}


# Words for what pydantic calls by its own names. They show nothing of what stands there.
_EXPECTED = {
    "model_type": "settings are expected here, each as `name: value`",
    "dict_type": "settings are expected here, each as `name: value`",
    "list_type": "a list is expected, e.g. [a, b]",
    "string_type": "text is expected; put it in quotes",
    "bool_type": "true or false is expected",
    "int_type": "a whole number is expected",
    "float_type": "a number is expected",
}


def _fault(document: Document, model: type[BaseModel], details: ErrorDetails) -> Fault:
    place: Place = details["loc"]
    where = document.where(place)
    if details["type"] == "extra_forbidden":
        known = _known_at(model, place[:-1])
        hint = nearest(str(place[-1]), known) or f" Known here: {', '.join(known)}."
        return Fault(where, f"unknown setting `{hide_keys(str(place[-1]))}`.{hint}")
    if details["type"] == "missing":
        return Fault(where, f"`{'.'.join(map(str, place))}` is missing. Add it.")
    while place and place not in document.lines:  # a union adds names of its own
        place = place[:-1]
    shown = hide_keys(".".join(map(str, place)))
    message = details["msg"]
    problem = _EXPECTED.get(details["type"]) or message[:1].lower() + message[1:]
    if details["type"] == "literal_error":
        words = [word.strip("'") for word in re.split(r", | or ", details["ctx"]["expected"])]
        wrong = details["input"] if isinstance(details["input"], str) else ""
        hint = nearest(wrong, words) or f" Known here: {', '.join(words)}."
        return Fault(where, f"`{shown}`: `{hide_keys(wrong)}` is no word for it.{hint}")
    return Fault(where, f"`{shown}`: {problem}.")


def _known_at(model: type[BaseModel], place: Iterable[str | int]) -> list[str]:
    """Names of the settings that may stand at a place."""
    current: Any = model
    for part in place:
        if _is_model(current):
            info = current.model_fields.get(str(part))
            current = _without_none(info.annotation) if info else None
        else:  # a list or a mapping: what it holds
            current = _without_none((typing.get_args(current) or (None,))[-1])
    return list(current.model_fields) if _is_model(current) else []


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _without_none(annotation: Any) -> Any:
    """`X` of `X | None`."""
    if not isinstance(annotation, types.UnionType):
        return annotation
    return next(part for part in typing.get_args(annotation) if part is not types.NoneType)


def sort_by_line(faults: Iterable[Fault]) -> list[Fault]:
    """Faults in the order in which they stand in the file; those without a line first."""

    def line(fault: Fault) -> int:
        _, colon, number = fault.where.rpartition(":")
        return int(number) if colon and number.isdigit() else 0

    return sorted(faults, key=line)
