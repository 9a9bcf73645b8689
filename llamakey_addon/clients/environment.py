"""Which variables a client sets, with what value, and what it has to write in code."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from llamakey_addon import keys
from llamakey_addon.clients import agents, keyfiles
from llamakey_addon.errors import LlamaKeyError

if TYPE_CHECKING:
    from llamakey_addon.catalogue.models import Client
    from llamakey_addon.journey import Provider

__all__ = ["Line", "UnknownClient", "VariableTaken", "environment", "known_names"]


class Line(NamedTuple):
    """A variable to set, or, where `variable` is empty, something to tell the reader."""

    variable: str
    value: str
    """Empty for one that is to be taken out: whoever reads it would be led elsewhere."""
    comment: str
    """For a variable the SDKs that read it; else the whole text."""


class UnknownClient(LlamaKeyError):
    """A name after `--for` that no provider or tool has."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        near = difflib.get_close_matches(name, sorted(known), n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        super().__init__(
            f"No provider or tool is called {name!r}.{hint} `lmk env --for list` lists them."
        )


class VariableTaken(LlamaKeyError):
    """Two of the named clients need different values of one variable."""

    def __init__(self, variable: str, first: str, second: str) -> None:
        super().__init__(
            f"{first} and {second} both set {variable}, to different values. Name one of them, "
            "and use a shell of its own for the other."
        )


def environment(
    providers: Iterable[Provider], proxy_url: str, key: str, only: Sequence[str] = ()
) -> list[Line]:
    """What a client sets to reach these providers.

    Arguments:
        proxy_url: by which the client reaches the proxy, e.g. `http://localhost:8000`.
        key: the local key, or a placeholder for it.
        only: ids of providers, names of tools and ids of agents (of which here are the variables
            that the catalogue knows). Without, every provider that is ready, each by the SDKs that
            no other provider shares its variables with.

    Raises:
        UnknownClient: `only` has a name that stands for nothing.
        VariableTaken: `only` names two whose variables differ.
    """
    providers = list(providers)
    proxy = proxy_url.rstrip("/")
    values: dict[str, str] = {}
    readers: dict[str, list[str]] = {}
    owners: dict[str, str] = {}
    told: dict[str, None] = {}  # in order, each once
    for provider, client in _chosen(providers, only):
        fill = _filler(provider, proxy, key)
        for variable, template in client.env.items():
            value = fill(template)
            known = values.setdefault(variable, value)
            owner = owners.setdefault(variable, provider.id)
            if known != value:
                if only:
                    raise VariableTaken(variable, owner, provider.id)
                continue
            if client.sdk not in readers.setdefault(variable, []):
                readers[variable].append(client.sdk)
        whose = f"{provider.entry.name}, {client.sdk}"
        if client.door == "none":
            told[f"{whose}: no door. {fill(client.why)}"] = None
        elif client.door == "second":
            also = f", or write {fill(client.code)}" if client.code else ""
            told[f"{whose}: second door (lmk run), since {client.why}{also}"] = None
        elif client.code:
            told[f"{whose}: write {fill(client.code)}"] = None
        if client.note:
            told[f"{whose}: {fill(client.note)}"] = None
        if not provider.ready:
            told[f"{provider.entry.name} is not ready: {provider.missing}"] = None
    return [
        *(Line(name, value, ", ".join(readers[name])) for name, value in values.items()),
        *(Line("", "", text) for text in told),
    ]


def known_names(providers: Iterable[Provider]) -> set[str]:
    """Everything that may stand after `--for`."""
    known = set(agents.load())
    for provider in providers:
        known |= {provider.id, provider.prefix}
        known.update(*(client.tools for client in provider.entry.clients))
    return known


def _chosen(
    providers: Sequence[Provider], only: Sequence[str]
) -> Iterator[tuple[Provider, Client]]:
    """The clients to serve. A provider's id stands for its own SDKs: those by default, and those
    that no tool's name stands for. A tool's name stands for it at every provider that is ready."""
    if not only:
        for provider in providers:
            if provider.ready:
                yield from ((provider, c) for c in provider.entry.clients if c.default)
        return
    known = known_names(providers)
    for name in only:
        if name not in known:
            raise UnknownClient(name, known)
    wanted = agents.with_tools(only)
    for provider in providers:
        named = not wanted.isdisjoint((provider.id, provider.prefix))
        for client in provider.entry.clients:
            own = named and (client.default or not client.tools)
            if own or (provider.ready and not wanted.isdisjoint(client.tools)):
                yield provider, client


def _filler(provider: Provider, proxy: str, key: str) -> Callable[[str], str]:
    """Fills the placeholders of a template of this provider's."""
    words = (
        ("{proxy}", proxy),
        ("{authority}", proxy.partition("://")[2]),
        ("{prefix}", provider.prefix),
        ("{key}", provider.entry.credential.client_prefix + key),
        ("{key_id}", parsed.id if (parsed := keys.parse(key)) else "-YOUR-KEYS-ID"),
        ("{key_file}", keyfiles.name(provider.prefix)),
    )

    def fill(template: str) -> str:
        for word, value in words:
            template = template.replace(word, value)
        return template

    return fill
