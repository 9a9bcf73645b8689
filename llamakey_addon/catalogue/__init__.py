"""The providers that LlamaKey knows, as data: one YAML file each, checked when it is loaded.

To add a provider, add `<id>.yaml` here; `models.py` says what each field means, and
`envelopes.yaml` holds the shapes of error answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

import yaml
from pydantic import BaseModel, ValidationError

from llamakey_addon.catalogue.models import Endpoint, Entry, Envelope
from llamakey_addon.errors import ConfigError, Fault

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

__all__ = ["Catalogue", "credential_headers", "load", "read"]

ENVELOPES = "envelopes.yaml"

# In entries scalars stay text and pydantic makes numbers and truth values of them, which saves the
# resolver's regular expressions. libyaml's parser is in every PyYAML wheel; without it we are slow.
# Both loaders make plain data alone.
_ENTRY_LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
_ENVELOPE_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Everything that the catalogue's files say."""

    entries: Mapping[str, Entry]
    """By id, in the order of the ids."""
    envelopes: Mapping[str, Envelope]
    strip_headers: frozenset[bytes]
    """Every credential or identity header that any provider knows: lower case, `_` as `-`."""
    query_keys: frozenset[str]
    """Every query parameter in which some provider's SDK puts its key, lower case."""
    subprotocols: frozenset[str]
    """Every form in which some provider's SDK puts its key among a WebSocket's subprotocols."""


@cache
def load() -> Catalogue:
    """The catalogue that comes with the package; read once a process.

    Raises `ConfigError` naming file and field when a file cannot be used.
    """
    return read(resources.files(__name__))


def read(folder: Traversable) -> Catalogue:
    """The catalogue in `folder`.

    Raises `ConfigError` with every fault of every file, each naming file and field.
    """
    faults: list[Fault] = []
    entries: dict[str, Entry] = {}
    envelopes: dict[str, Envelope] = {}
    prefixes: dict[str, str] = {}
    files = [file for file in folder.iterdir() if file.name.endswith(".yaml")]
    for file in sorted(files, key=lambda file: file.name.removesuffix(".yaml")):
        content = _parse(file, faults)
        if content is None:
            continue
        if file.name == ENVELOPES:
            for name, shape in content.items():
                envelope = _check(Envelope, shape, f"{file.name}: {name}", faults)
                if envelope is not None:
                    envelopes[name] = envelope
            continue
        entry = _check(Entry, content, file.name, faults)
        if entry is None:
            continue
        if file.name != f"{entry.id}.yaml":
            faults.append(Fault(file.name, f"id: the file of {entry.id!r} is {entry.id}.yaml"))
        if other := prefixes.get(entry.prefix):
            faults.append(Fault(file.name, f"prefix: {entry.prefix!r} is already {other}'s"))
        prefixes[entry.prefix] = file.name
        faults += (Fault(file.name, f"endpoints: {twin}") for twin in _twins(entry.endpoints))
        entries[entry.id] = entry
    for entry in entries.values():
        if entry.envelope not in envelopes:
            faults.append(
                Fault(
                    f"{entry.id}.yaml",
                    f"envelope: {entry.envelope!r} is not in {ENVELOPES}, which has "
                    + ", ".join(sorted(envelopes)),
                )
            )
    if faults:
        raise ConfigError(faults)
    return Catalogue(
        entries=entries,
        envelopes=envelopes,
        strip_headers=frozenset().union(*map(credential_headers, entries.values())),
        query_keys=frozenset(
            slot.query.lower()
            for entry in entries.values()
            for slot in entry.credential.accept
            if slot.query
        ),
        subprotocols=frozenset(
            slot.subprotocol
            for entry in entries.values()
            for slot in entry.credential.accept
            if slot.subprotocol
        ),
    )


def credential_headers(entry: Entry) -> frozenset[bytes]:
    """Headers of a provider that never pass from client to upstream: lower case, `_` as `-`."""
    names = [entry.credential.place.header, *entry.identity_headers]
    names += (slot.header for slot in entry.credential.accept if slot.header)
    if entry.credential.made is not None:
        names.append(entry.credential.made.place.header)
    return frozenset(name.lower().replace("_", "-").encode() for name in names)


def _parse(file: Traversable, faults: list[Fault]) -> dict[str, object] | None:
    try:
        loader = _ENVELOPE_LOADER if file.name == ENVELOPES else _ENTRY_LOADER
        content = yaml.load(file.read_bytes(), Loader=loader)  # noqa: S506
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{file.name}:{mark.line + 1}" if mark else file.name
        faults.append(Fault(where, f"not YAML: {getattr(error, 'problem', None) or error}"))
        return None
    if not isinstance(content, dict):
        faults.append(Fault(file.name, "a mapping of fields is expected; see models.py"))
        return None
    return content


def _check[M: BaseModel](
    model: type[M], content: object, where: str, faults: list[Fault]
) -> M | None:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        for fault in error.errors(include_url=False, include_input=False):
            field = ".".join(map(str, fault["loc"]))
            faults.append(Fault(where, f"{field}: {fault['msg']}" if field else fault["msg"]))
        return None


def _twins(endpoints: Iterable[Endpoint]) -> list[str]:
    """Names that stand for two different endpoints of one method."""
    counts = Counter(
        (endpoint.name, method) for endpoint in endpoints for method in endpoint.methods
    )
    return [f"{name} stands twice for {method}" for (name, method), n in counts.items() if n > 1]
