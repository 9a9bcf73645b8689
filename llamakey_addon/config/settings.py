"""What the proxy runs by: config.yaml and the environment, resolved and frozen.

`Settings.load` is the only maker. Loading again is the reload: nothing here changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

from llamakey_addon.config.money import Metering, Money
from llamakey_addon.config.people import People, Team
from llamakey_addon.errors import ConfigError, Fault
from llamakey_addon.journey import Cap, Policy, PriceRule, Provider

_SCOPES_KEPT = 4096

type Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Listen:
    """Where the proxy serves."""

    host: str
    port: int
    """0 lets the system choose one."""

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Tls:
    """Certificate for clients; both PEM files were read when the settings were loaded."""

    cert: Path
    key: Path
    own: bool = False
    """`lmk tls` made it; else the owner names it in config.yaml."""


@dataclass(frozen=True, slots=True)
class Trust:
    """What clients trust where the certificate is of the proxy's own authority."""

    ca: Path
    """The authority's certificate."""
    bundle: Path
    """The same with the system's roots: for clients that take one file in place of those."""


@dataclass(frozen=True, slots=True)
class Door:
    """The second door, where the host chooses the provider."""

    open: bool
    listen: Listen
    url: str
    """By which clients reach it as a proxy, without credentials."""
    tunnel: tuple[str, ...]
    """Globs of further hosts, with `:PORT` for another port than 443."""
    trust: Trust | None
    """What its clients trust, where the authority is there."""


@dataclass(frozen=True, slots=True)
class Logging:
    console: bool
    file: Path | None


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds; `model.LimitsPart` says what each is. `_s` are seconds, `_bytes` bytes."""

    head_bytes: int
    head_fields: int
    head_timeout_s: float
    keepalive_timeout_s: float
    body_bytes: int
    json_body_bytes: int
    signed_body_bytes: int
    body_timeout_s: float
    answer_timeout_s: float
    connect_timeout_s: float
    connections: int
    connections_per_address: int
    pool_idle: int
    pool_idle_s: float
    pool_warm: int
    upstream_connections: int
    answer_head_bytes: int
    drain_timeout_s: float
    retire_timeout_s: float


@dataclass(frozen=True, slots=True)
class View:
    max_flows: int
    body_bytes: int
    web_port: int
    """0 lets the system choose one."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that the owner decided, checked."""

    path: Path | None
    """The file that was read; None where there is none and the defaults hold."""
    listen: Listen
    workers: int
    """Processes that serve."""
    public_url: str
    """By which clients reach the proxy, without a trailing slash."""
    allow_plain: bool
    trusted_proxies: tuple[Network, ...]
    tls: Tls | None
    """Where it is there, the port speaks TLS, and plain HTTP only to this machine itself (or to
    all, with `allow_plain`)."""
    trust: Trust | None
    door: Door
    data_folder: Path
    contact: str
    providers: Mapping[str, Provider]
    """By prefix: every catalogued one, ready or not, and the owner's own."""
    people: People
    """Teams, users, and what everybody shares."""
    unowned_allowed: bool
    """Whether users see and use what is under the account and nobody made through this proxy."""
    money: Money
    prices: tuple[PriceRule, ...]
    """First match wins, before the price table that comes along."""
    metering: Metering
    logging: Logging
    limits: Limits
    upstream_proxy: str | None = field(repr=False)
    """URL, perhaps with a password in it; None leaves the choice to the environment."""
    view: View
    strip_headers: frozenset[bytes] = field(repr=False)
    """Headers that never pass from client to upstream: every credential or identity header of any
    provider, the owner's own included. Lower case, `_` as `-`."""
    slot_headers: frozenset[bytes] = field(repr=False)
    """Of those, the headers in which some provider's SDK puts its key."""
    query_keys: frozenset[str] = field(repr=False)
    """Query parameters in which some provider's SDK puts its key, lower case."""
    subprotocols: frozenset[str] = field(repr=False)
    """Forms in which some provider's SDK puts its key among a WebSocket's subprotocols."""
    warnings: tuple[Fault, ...] = ()
    """What works and yet wants a look."""
    _scopes: dict[tuple[str, str], Policy] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def load(
        cls,
        path: Path | None,
        environ: Mapping[str, str],
        *,
        listen: str | None = None,
        door: bool = False,
        door_listen: str | None = None,
    ) -> Settings:
        """Read config.yaml and the environment.

        Arguments:
            path: the file; None takes ./config.yaml if there is one, else the defaults.
            environ: environment variables, e.g. `os.environ`.
            listen: `HOST:PORT` of the command line, before the file's.
            door: open the second door, whatever the file says.
            door_listen: `HOST:PORT` of the second door, before the file's.

        Raises ConfigError with every fault there is, each with its file and line.
        """
        from llamakey_addon.config.load import load

        return load(path, environ, listen=listen, door=door, door_listen=door_listen)

    def policy(self, user: str) -> Policy:
        """What a user may do, with what their team has. Names are compared without case."""
        return self.people.policy(user)

    def shown_to(self, user: str) -> frozenset[str]:
        """Who sees and uses what a user makes, beside that user: names as compared, or `*`."""
        return self.people.policy(user).shown_to

    @property
    def everybody(self) -> tuple[Cap, ...]:
        """Bounds on all requests of this proxy together."""
        return self.people.everybody

    @property
    def teams(self) -> Mapping[str, Team]:
        """By name."""
        return self.people.teams

    def scope(self, text: str, key_id: str) -> Policy:
        """What a key may do of what its user may: `text` is JSON of a user's part of config.yaml.

        Names that this proxy no longer knows are let stand: the rule that has them fits nothing.
        Raises ConfigError where it is not of that shape.
        """
        policy = self._scopes.get((text, key_id))
        if policy is None:
            from llamakey_addon.config.people_reader import read_scope

            policy, _ = read_scope(text, key_id, self.providers.values(), self.money)
            if len(self._scopes) >= _SCOPES_KEPT:
                self._scopes.clear()
            self._scopes[text, key_id] = policy
        return policy

    def check_scope(self, text: str, key_id: str) -> Policy:
        """The same for a scope that is new: raises ConfigError for unknown names, too."""
        from llamakey_addon.config.people_reader import read_scope

        policy, faults = read_scope(text, key_id, self.providers.values(), self.money)
        if faults:
            raise ConfigError(faults)
        return policy

    @staticmethod
    def json_schema() -> dict[str, Any]:
        """JSON Schema of config.yaml, for editors."""
        from llamakey_addon.config.model import json_schema

        return json_schema()
