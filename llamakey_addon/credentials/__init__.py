"""Real credentials that are made, not stored: tokens that last an hour, signatures of one request.

    Recipe ── a maker (in a thread) ──► Made ── Vault keeps it ──► Seal ── the road puts it on

A provider whose credential is a key has a `Placed` seal from the start. Where it is made, its
catalogue entry says by which kind (`MAKERS`), config joins that with what the owner gave to a
`Recipe`, and the `Vault` sees to it that one is at hand: made once for all that wait, anew before
it ends, and never on the event loop's time.

A maker is a function of a recipe. It blocks, keeps what it likes between its turns, and raises
`MakingFailed` with the remedy. What it makes is bound to the recipe's hosts.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from llamakey_addon.catalogue.models import Placement
from llamakey_addon.errors import LlamaKeyError
from llamakey_addon.journey import Headers, Outgoing, Recipe, Seal
from llamakey_addon.keys import Secret

__all__ = ["MAKERS", "MAKING_S", "Ask", "Made", "Maker", "MakingFailed", "Placed", "Reply", "maker"]

MAKING_S: Final = 20.0
"""How long the making of a credential may take."""


class MakingFailed(LlamaKeyError):
    """A credential could not be made.

    Arguments:
        message: what happened and what to do, for the owner's log; nothing of any key.
        passing: whether another try may succeed without the owner.
    """

    def __init__(self, message: str, *, passing: bool) -> None:
        super().__init__(message)
        self.passing = passing


@dataclass(frozen=True, slots=True)
class Made:
    """A credential, and for how long it is good."""

    seal: Seal
    lives_s: float


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server of tokens answered."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes


class Ask(Protocol):
    """One request to a server of tokens: verified, through the company's proxy where there is one.

    Blocks. Raises MakingFailed where there is no answer.
    """

    def __call__(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, *, ca: str
    ) -> Reply: ...


type Maker = Callable[[], Made]
"""Makes one, blocking; called again when a new one is wanted."""

MAKERS: Final[Mapping[str, str]] = {
    "aws": "llamakey_addon.credentials.aws",
    "client-credentials": "llamakey_addon.credentials.client",
    "google": "llamakey_addon.credentials.google",
}
"""Kind → module with `maker(recipe, ask) -> Maker`, imported late: some need an extra."""


def maker(recipe: Recipe, ask: Ask) -> Maker:
    """What makes credentials by this recipe. Blocks while it imports. Raises MakingFailed."""
    module = importlib.import_module(MAKERS[recipe.kind])
    made: Maker = module.maker(recipe, ask)
    return made


class Placed:
    """A key, or a token that is put on requests like one."""

    __slots__ = ("_form", "_header", "_secret")

    def __init__(self, secret: Secret, place: Placement) -> None:
        self._secret = secret
        self._header = place.header.encode("ascii")
        self._form = place.format.encode("ascii")

    def put(self, request: Outgoing) -> tuple[Headers, tuple[bytes, ...]]:
        key = self._secret.reveal(request.upstream.host)
        return ((self._header, self._form.replace(b"{key}", key)),), (key,)

    def secrets(self) -> tuple[Secret, ...]:
        """What of it may stand nowhere else."""
        return (self._secret,)
