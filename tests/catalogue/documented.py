"""`documented.yaml` as values: what providers' documentation says of their APIs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Much faster, where PyYAML has it."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a provider's API, as a client makes it and as the provider documents it."""

    provider: str
    docs: str
    origin: str
    """Of the API; may hold `{name}` where the host is the customer's own."""
    method: str
    asked: str
    """Path and query that the client writes after the prefix."""
    target: str
    """Path and query that must reach the provider."""
    header: str
    """That the provider demands its key in, lower case."""
    value: str
    """Of that header, with `{key}` for the real key."""
    clients: tuple[str, ...]
    """`Header: value` or `?parameter=value` in which SDKs send a key, with `{key}`."""

    def __str__(self) -> str:
        return f"{self.provider} {self.method} {self.asked}"


def load() -> dict[str, dict[str, Any]]:
    text = Path(__file__).with_name("documented.yaml").read_text("utf-8")
    loaded: dict[str, dict[str, Any]] = yaml.load(text, LOADER)
    return loaded


def calls() -> Iterator[Call]:
    """Every documented call, then every form that users are known to write."""
    for provider, said in load().items():
        header, _, value = said["credential"].partition(": ")
        for line in (*said["calls"], *said.get("forms", ())):
            method, _, rest = line.partition(" ")
            asked, _, target = rest.partition(" -> ")
            yield Call(
                provider=provider,
                docs=said["docs"],
                origin=said["origin"],
                method=method,
                asked=asked,
                target=target or asked,
                header=header.lower(),
                value=value,
                clients=tuple(said["clients"]),
            )
