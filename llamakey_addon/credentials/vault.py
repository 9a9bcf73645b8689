"""Keeps made credentials at hand: one making for all that wait, the next before the last one ends.

Each making runs in a thread of its own and reports to the event loop, where everything else here
happens. What fails is told to those who wait, with the remedy in the log, and tried again by the
next request, though not at once: a crowd must not storm a server that refuses.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from llamakey_addon import credentials
from llamakey_addon.credentials import Ask, Made, Maker, MakingFailed
from llamakey_addon.errors import Denied, NoCredential
from llamakey_addon.journey import Recipe, Seal
from llamakey_addon.keys import Secret

#: A new one is made while the old one is good for a tenth of its life, and at most so much longer.
_AHEAD_MAX_S: Final = 300.0
#: So long before its end one is not used any more: the request has yet to arrive.
_MARGIN_S: Final = 10.0
_PAUSE_S: Final = 2.0
_PAUSE_HOPELESS_S: Final = 10.0
#: One that a provider refused is made anew, unless it is as young as this.
_DOUBT_S: Final = 10.0

type Credited = Callable[[Recipe, Seal], None]
type Uncredited = Callable[[Recipe, Denied], None]


@dataclass(slots=True, eq=False)
class _Keeper:
    """What there is of one recipe."""

    recipe: Recipe
    maker: Maker | None = None
    """Touched by the one making that runs, and nobody else."""
    seal: Seal | None = None
    made_s: float = 0.0
    renew_s: float = 0.0
    ends_s: float = 0.0
    running: bool = False
    failure: MakingFailed | None = None
    pause_ends_s: float = 0.0
    waiting: list[tuple[Credited, Uncredited]] = field(default_factory=list)


class Vault:
    """All made credentials of a process. Belongs to its event loop.

    Arguments:
        ask: how servers of tokens are reached.
        note: a line for the log.
    """

    def __init__(
        self,
        ask: Ask,
        note: Callable[[str], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ask = ask
        self._note = note
        self._clock = clock  # wall time: a token ends while a laptop sleeps, too
        self._keepers: dict[Recipe, _Keeper] = {}

    def want(self, recipe: Recipe, made: Credited, failed: Uncredited) -> None:
        """Call `made` or `failed`, perhaps before this returns."""
        keeper = self._keepers.setdefault(recipe, _Keeper(recipe))
        now_s = self._clock()
        good = keeper.seal is not None and now_s < keeper.ends_s
        if now_s >= keeper.renew_s and now_s >= keeper.pause_ends_s:
            self._begin(keeper)
        if good and keeper.seal is not None:
            made(recipe, keeper.seal)
        elif keeper.running:
            keeper.waiting.append((made, failed))
        else:
            failed(recipe, _denied(keeper))

    def doubt(self, recipe: Recipe, seal: Seal) -> None:
        """The provider refused it: the next request has a new one made."""
        keeper = self._keepers.get(recipe)
        if keeper is None or keeper.seal is not seal:
            return
        if self._clock() - keeper.made_s >= _DOUBT_S:
            keeper.seal, keeper.renew_s = None, 0.0

    def keep(self, recipes: Iterable[Recipe]) -> None:
        """Forget what is of no recipe any more."""
        kept = set(recipes)
        self._keepers = {r: keeper for r, keeper in self._keepers.items() if r in kept}

    def secrets(self) -> tuple[Secret, ...]:
        """Everything secret that is at hand now, for those who mask."""
        return tuple(
            secret
            for keeper in self._keepers.values()
            if keeper.seal is not None
            for secret in keeper.seal.secrets()
        )

    # ── one making ────────────────────────────────────────────────────────────────────────────

    def _begin(self, keeper: _Keeper) -> None:
        if keeper.running:
            return
        keeper.running = True
        loop = asyncio.get_running_loop()

        def make() -> None:
            result: Made | BaseException
            try:
                if keeper.maker is None:
                    keeper.maker = credentials.maker(keeper.recipe, self._ask)
                result = keeper.maker()
            except BaseException as error:
                result = error
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._end, keeper, result)

        # A daemon: a stop does not wait for somebody else's server.
        name = f"credential of {keeper.recipe.name}"
        threading.Thread(target=make, name=name, daemon=True).start()

    def _end(self, keeper: _Keeper, result: Made | BaseException) -> None:
        keeper.running = False
        now_s = self._clock()
        waiting, keeper.waiting = keeper.waiting, []
        if isinstance(result, Made):
            keeper.seal, keeper.failure, keeper.made_s = result.seal, None, now_s
            keeper.ends_s = now_s + max(1.0, result.lives_s - _MARGIN_S)
            keeper.renew_s = keeper.ends_s - min(_AHEAD_MAX_S, result.lives_s / 10)
            for made, _ in waiting:
                made(keeper.recipe, result.seal)
            return
        keeper.failure = _failure(result)
        pause_s = _PAUSE_S if keeper.failure.passing else _PAUSE_HOPELESS_S
        keeper.pause_ends_s = now_s + pause_s
        if not waiting:  # a making ahead of its time: nobody else says so
            self._note(f"{keeper.recipe.name}: {keeper.failure}")
        for _, failed in waiting:
            failed(keeper.recipe, _denied(keeper))


def _failure(error: BaseException) -> MakingFailed:
    if isinstance(error, MakingFailed):
        return error
    # What a library raises has words of its own, of which nobody knows what they hold.
    return MakingFailed(f"its maker failed ({type(error).__name__})", passing=True)


def _denied(keeper: _Keeper) -> Denied:
    recipe, failure = keeper.recipe, keeper.failure
    detail = f"{recipe.name}: {failure} (from {recipe.source})"
    passing = failure is None or failure.passing
    wait_s = int(_PAUSE_S) if passing else None
    return NoCredential(recipe.name, detail=detail, setting=recipe.setting, retry_after_s=wait_s)
