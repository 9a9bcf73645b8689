"""What is around a road: sockets, timers, connections to providers, and those who look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from llamakey_addon.journey import Answer, Ask, Headers, Recipe, Upstream, Usage, Visit


class Link(Protocol):
    """A connection to an upstream, lent to one exchange."""

    reused: bool

    @property
    def upstream(self) -> Upstream: ...
    def write(self, data: bytes, more: bytes = b"") -> None:
        """Send `data`, and `more` behind it, where to join them would copy something large."""

    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def give_back(self) -> None:
        """The exchange is over and left the connection clean."""

    def drop(self) -> None:
        """Close it now."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What those who look made of a request."""

    ask: Ask
    content: bytes | None
    """None while the body streams."""
    edited: bool = False
    answer: Answer | None = None
    """Set where an addon answers in the provider's place."""
    killed: bool = False


@dataclass(frozen=True, slots=True)
class Goodbye:
    """How a WebSocket ended."""

    by_client: bool
    code: int
    reason: str


class Look(Protocol):
    """Somebody watches this exchange. The methods never raise and never wait."""

    def asked(self, visit: Visit, content: bytes | None) -> None:
        """Run the hooks of the request; then call `Road.looked` or `Road.look_failed`."""

    def uploaded(self, data: bytes) -> None: ...
    def answered(self, status: int, reason: bytes, headers: Headers) -> None: ...
    def piece(self, data: bytes) -> None: ...
    def message(self, *, up: bool, opcode: int, piece: bytes, ends: bool) -> None:
        """Of a WebSocket: a piece of a message, from the client or to it."""

    def ended(self, usage: Usage, goodbye: Goodbye | None = None) -> None: ...
    def refused(self, ask: Ask, answer: Answer) -> None: ...


class Rim(Protocol):
    """What is around a road: sockets, timers, and those who look."""

    def to_client(self, data: bytes) -> None: ...
    def flush(self) -> None:
        """A step of the road is over, or its answer is whole: what it had for the client may leave,
        in one piece."""

    def pause_client(self) -> None: ...
    def resume_client(self) -> None: ...
    def finish_client(self) -> None:
        """Say that no more bytes come; go on reading."""

    def close_client(self, *, reset: bool = False) -> None:
        """Close once what was written has left; `reset` tells the client that it is not whole."""

    def secure(self, host: str, before: bytes) -> None:
        """For the second door: write `before`, speak TLS as this host from then on, then call
        `Road.secured`. What fails on the way ends the connection.

        Raises Denied where nothing can vouch for this host; then nothing was written.
        """

    def open_upstream(self, upstream: Upstream, *, fresh: bool) -> None:
        """Get a connection, then call `Road.opened` or `Road.unopened`, perhaps at once."""

    def cancel_upstream(self) -> None: ...
    def make_credential(self, recipe: Recipe) -> None:
        """Get the real credential, then call `Road.credited` or `Road.uncredited`, perhaps at
        once, perhaps when the road has long turned to something else."""

    def now(self) -> float:
        """Monotonic seconds."""

    def wake_at(self, when_s: float) -> None:
        """Call `Road.tick` then; replaces an earlier wish."""

    def soon(self) -> None:
        """Call `Road.go_on` after whatever else waits for its turn."""

    def is_tls(self) -> bool:
        """Whether the client's connection is TLS."""

    def is_own_user(self) -> bool:
        """Whether the client is a process of the proxy's own user on this machine."""

    def watch(self, ask: Ask) -> Look | None: ...
