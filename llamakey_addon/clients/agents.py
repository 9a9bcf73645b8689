"""Coding agents and tools as data: `agents.yaml`, and what one of them needs on this machine.

An agent is set up by variables, and some by files too, which are written for it alone: its user's
own settings are read and stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path, PurePath
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import yaml
from pydantic import Field

from llamakey_addon.catalogue.models import Model
from llamakey_addon.clients import settings_files
from llamakey_addon.clients.settings_files import SettingsUnreadable

type _Variable = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")]

_SETTINGS_BYTES: Final = 1 << 20
_PROGRAM_ENDINGS: Final = frozenset({".exe", ".cmd", ".bat", ".ps1"})


class Document(Model):
    """Settings of an agent's: what its user has, less what would lead elsewhere, and ours over it.

    Texts may hold `{proxy}`, the proxy's URL without a trailing slash, and `{key}`, the local key.
    """

    begins_with: tuple[str, ...] = ()
    """Where the user's own may be, the first that is there: a path, with `~` or a variable at its
    beginning, or (`$NAME` alone) a variable that holds them."""
    keeps: tuple[str, ...] = ()
    """What the agent itself writes to our file and is kept when that is written anew."""
    drops: tuple[str, ...] = ()
    """What of the user's own is not taken over."""
    defaults: dict[str, Any] = Field(default_factory=dict)
    """What holds where the user's own says nothing."""
    sets: dict[str, Any] = Field(default_factory=dict)
    """What holds in any case."""
    each: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """By a provider's id: what holds where this one is served. Lists are joined."""


class Agent(Model):
    """One of them."""

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
    """For `--for`."""
    name: str
    commands: tuple[str, ...] = ()
    """Names of its program, by which `lmk run` knows it."""
    needs: tuple[str, ...] = ()
    """Ids of providers of which it needs one at least."""
    tools: tuple[str, ...] = ()
    """Names of the catalogue's `tools` whose variables it reads, beside those of its own id."""
    env: dict[_Variable, str] = Field(default_factory=dict)
    """Variables of its own: `{proxy}` and `{key}` as in documents, `{folder}` for its files'."""
    unset: tuple[_Variable, ...] = ()
    """Variables that lead it elsewhere."""
    files: dict[str, Document] = Field(default_factory=dict)
    """By name; the ending says which kind, `.json` or `.toml`."""
    documents: dict[_Variable, Document] = Field(default_factory=dict)
    """By the variable that holds it, as JSON."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Outfit:
    """What an agent needs on this machine."""

    agent: Agent
    variables: Mapping[str, str]
    """To be set; those with an empty value are to be taken out."""
    files: Mapping[Path, str] = field(repr=False)
    """To be written, for the user alone."""


@cache
def load() -> Mapping[str, Agent]:
    """All of them, by id, in the order of the file."""
    text = (resources.files(__package__) / "agents.yaml").read_text("utf-8")
    agents = [Agent.model_validate(each) for each in yaml.safe_load(text)]
    return {agent.id: agent for agent in agents}


def of_command(word: str) -> Agent | None:
    """Whose program this is, by its name."""
    path = PurePath(word)
    name = path.stem if path.suffix.lower() in _PROGRAM_ENDINGS else path.name
    return next((agent for agent in load().values() if name in agent.commands), None)


def with_tools(names: Iterable[str]) -> set[str]:
    """The names, and the tools that agents among them stand for."""
    wanted = set(names)
    return wanted.union(*(agent.tools for agent in load().values() if agent.id in wanted))


def folder(data_folder: Path, proxy_url: str, agent: Agent) -> Path:
    """Where an agent's files for this proxy are."""
    parts = urlsplit(proxy_url)
    place = f"{parts.hostname or 'proxy'}-{parts.port or parts.scheme}".replace(":", "_")
    return data_folder / "clients" / place / agent.id


def outfit(
    agent: Agent,
    served: Sequence[str],
    *,
    proxy_url: str,
    key: str,
    folder: Path,
    environ: Mapping[str, str],
) -> Outfit:
    """What it needs to reach these providers.

    Arguments:
        served: their ids.
        folder: where its files go, absolute.
        environ: where the variables are that lead to its user's own settings.

    Raises SettingsUnreadable.
    """
    words = {"{proxy}": proxy_url.rstrip("/"), "{key}": key, "{folder}": str(folder)}
    variables = dict.fromkeys(agent.unset, "")
    variables |= {name: filled(value, words) for name, value in agent.env.items()}
    for name, document in agent.documents.items():
        settings = _settings(document, "json", served, words, environ, None)
        variables[name] = settings_files.write(settings, "json").strip()
    files = {}
    for name, document in agent.files.items():
        path = folder / name
        kind = path.suffix.removeprefix(".")
        settings = _settings(document, kind, served, words, environ, path)
        files[path] = settings_files.write(settings, kind)
    return Outfit(agent, variables, files)


def _settings(
    document: Document,
    kind: str,
    served: Sequence[str],
    words: Mapping[str, str],
    environ: Mapping[str, str],
    own: Path | None,
) -> dict[str, Any]:
    users = _users(document, kind, environ, own)
    table = {name: value for name, value in users.items() if name not in document.drops}
    if own is not None and document.keeps:
        before = _read(own, kind)
        table |= {name: before[name] for name in document.keeps if name in before}
    table = settings_files.over(document.defaults, table)
    ours: dict[str, Any] = dict(document.sets)
    for provider, part in document.each.items():
        if provider in served:
            ours = settings_files.joined(ours, part)
    return settings_files.over(table, filled(ours, words))


def _users(
    document: Document, kind: str, environ: Mapping[str, str], own: Path | None
) -> dict[str, Any]:
    """The user's own settings; empty where there are none, or only those that we have written."""
    for place in document.begins_with:
        start, slash, rest = place.partition("/")
        if start.startswith("$"):
            value = environ.get(start.removeprefix("$"), "")
            if not value:
                continue
            if not slash and kind == "json" and value.lstrip().startswith("{"):
                return settings_files.read(value, kind, start)
            path = Path(value) / rest if slash else Path(value)
        elif start == "~":
            path = Path(environ.get("HOME") or Path.home()) / rest
        else:
            path = Path(place)
        if path == own:
            continue  # of an `lmk run` around this one
        if path.is_file():
            return _read(path, kind)
    return {}


def _read(path: Path, kind: str) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(_SETTINGS_BYTES).decode("utf-8", "replace")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SettingsUnreadable(str(path), error.strerror) from None
    return settings_files.read(text, kind, str(path))


def filled[T](value: T, words: Mapping[str, str]) -> T:
    """The same with its placeholders filled, however deep they stand."""
    done: Any = value
    if isinstance(value, str):
        for word, text in words.items():
            done = done.replace(word, text)
    elif isinstance(value, dict):
        done = {filled(name, words): filled(each, words) for name, each in value.items()}
    elif isinstance(value, list):
        done = [filled(each, words) for each in value]
    return done  # type: ignore[no-any-return]
