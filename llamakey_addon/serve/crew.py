"""Workers as their parent knows them: who there is, in which batch and on which seat, and the fork
that makes another."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from llamakey_addon.config import Settings
from llamakey_addon.serve import orders
from llamakey_addon.serve.orders import Line
from llamakey_addon.serve.signals import Signals
from llamakey_addon.serve.turns import Seat, Turns

#: Seats for those who end while others have come in their place.
_SPARE_SEATS: Final = 16


@dataclass(frozen=True, slots=True)
class Duty:
    """What a worker has from its parent."""

    settings: Settings
    line: Line
    seat: Seat


@dataclass(slots=True, eq=False)
class Batch:
    """Workers that were started for the same reason."""

    settings: Settings = field(repr=False)
    count: int
    turns: Turns

    @classmethod
    def of(cls, settings: Settings, count: int | None) -> Batch:
        """So many, or as many as the settings say."""
        count = settings.workers if count is None else count
        return cls(settings, count, Turns(count + _SPARE_SEATS))


@dataclass(slots=True, eq=False)
class Worker:
    """A child of this process."""

    pid: int
    line: Line
    batch: Batch | None
    """None for one that a former life of this process has started."""
    seat: int
    born_s: float
    state: Literal["starting", "serving", "ending"] = "starting"
    failure: str = ""


class Crew:
    """All workers that have not ended.

    Arguments:
        heirs: of a former life of this process.
    """

    def __init__(self, signals: Signals, heirs: Iterable[Worker]) -> None:
        self._signals = signals
        self.workers = list(heirs)

    def of(self, batch: Batch) -> list[Worker]:
        """Those of a batch who serve, or will."""
        return [w for w in self.workers if w.batch is batch and w.state != "ending"]

    def any_serves(self) -> bool:
        return any(worker.state == "serving" for worker in self.workers)

    def has_other(self, worker: Worker) -> bool:
        """Whether others serve than those of its batch."""
        return any(w.state == "serving" and w.batch is not worker.batch for w in self.workers)

    def has_seat(self, batch: Batch) -> bool:
        """Whether there is room for one more."""
        return bool(self._free_seats(batch))

    def fork(self, batch: Batch) -> Duty | None:
        """Make one more. In it, its duty; None in the parent."""
        number = min(self._free_seats(batch))
        ours, theirs = orders.pair()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()

        def fork() -> int:
            pid = os.fork()
            if pid == 0:
                self._signals.forget()
                for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
                    signal.signal(ignored, signal.SIG_IGN)  # they are the parent's
            return pid

        pid = self._signals.held_back(fork)
        if pid:
            theirs.close()
            self.workers.append(Worker(pid, ours, batch, number, time.monotonic()))
            return None
        ours.close()
        for other in self.workers:
            other.line.close()
        return Duty(shared_out(batch.settings, batch.count), theirs, batch.turns.seat(number))

    def forget(self, worker: Worker) -> None:
        """It has ended."""
        worker.line.close()
        self.workers.remove(worker)
        if worker.batch is not None and worker.seat >= 0:
            worker.batch.turns.seat(worker.seat).leave()

    def _free_seats(self, batch: Batch) -> set[int]:
        taken = {worker.seat for worker in self.workers if worker.batch is batch}
        return set(range(batch.count + _SPARE_SEATS)) - taken


def shared_out(settings: Settings, count: int) -> Settings:
    """A worker's settings, one of so many: of what is bounded in all, its share."""

    def share(most: int) -> int:
        return -(-most // max(1, count))

    limits = settings.limits
    return replace(
        settings,
        limits=replace(
            limits,
            connections=share(limits.connections),
            connections_per_address=share(limits.connections_per_address),
            pool_idle=share(limits.pool_idle),
            upstream_connections=share(limits.upstream_connections),
        ),
    )
