"""The parent of workers: opens, loads and prints, forks those who serve, and looks after them.

It serves nobody and has neither event loop nor thread, so that it can fork at any time. Each worker
inherits the listening sockets and, in memory, the settings with their keys. What the two tell each
other goes over `orders.Line`; its end tells a worker that the parent is gone.

Workers come in batches. A restart makes a new batch, and when all of it serves, the one before
retires: it accepts no more, ends what it has, and goes. A batch that does not come up is called
off, and nothing has changed.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Final

from llamakey_addon.config import Settings
from llamakey_addon.errors import ConfigError, LlamaKeyError
from llamakey_addon.journal import Journal
from llamakey_addon.serve import orders, program, second
from llamakey_addon.serve.changes import LOOK_S, Changes
from llamakey_addon.serve.crew import Batch, Crew, Duty, Worker, shared_out
from llamakey_addon.serve.orders import Line, Word
from llamakey_addon.serve.ports import Listener, Role
from llamakey_addon.serve.signals import Signals
from llamakey_addon.serve.wishes import StartFailed, Wishes

#: A worker that ends so soon after its start is no accident.
_SOON_S: Final = 10.0
_BACKOFF_S: Final = (0.1, 30.0)
#: So many ends soon after a start, with nobody else to serve, and there is no use in going on.
_TRIES: Final = 5
#: Beyond the time that running answers have; then those who are left are killed.
_GRACE_S: Final = 10.0
#: A stop that takes so long is told of.
_TELL_S: Final = 0.5


class Parent:
    """Looks after workers.

    Arguments:
        opened: called once all workers take connections.
        heirs: workers of a former life of this process.
    """

    def __init__(
        self,
        wishes: Wishes,
        settings: Settings,
        journal: Journal,
        listeners: Sequence[Listener],
        signals: Signals,
        opened: Callable[[], None],
        heirs: Sequence[program.Heir] = (),
    ) -> None:
        self._wishes = wishes
        self._journal = journal
        self._listeners = listeners
        self._signals = signals
        self._opened = opened
        self._changes = Changes(wishes, settings, journal)
        self._program = program.fingerprint()
        now_s = time.monotonic()
        self._crew = Crew(
            signals,
            (Worker(heir.pid, Line(heir.socket()), None, -1, now_s, heir.state) for heir in heirs),
        )
        self._coming: Batch | None = Batch.of(settings, wishes.workers)
        """Not all of it serves yet."""
        self._why = "restarted"
        self._serving: Batch | None = None
        self._rehearsal: subprocess.Popen[bytes] | None = None
        self._fork_s = now_s
        """When the next fork may be."""
        self._failures = 0
        self._look_s = now_s + LOOK_S
        self._taking: set[Worker] = set()
        """Who has yet to take the settings that a reload brought."""
        self._told_of: Callable[[], None] = _nothing
        """Says that they were taken, once they all have."""
        self._restart = self._reload = False
        """What is to be done once nothing else is under way."""
        self._stops = 0
        self._stopped_s = 0.0
        self._told = self._killed = False
        self._fatal = ""

    def run(self) -> int | Duty:
        """The exit code, when all has ended; in each worker its duty, at once.

        Raises StartFailed: the workers end before they serve.
        """
        gc.collect()
        gc.freeze()  # what all workers share stays as it is
        while True:
            if (duty := self._fork_missing()) is not None:
                return duty
            self._wait()
            for worker in list(self._crew.workers):
                self._hear(worker)
            self._reap()
            for number in self._signals.take():
                self._heed(number)
            self._look_after_rehearsal()
            self._look_at_reload()
            self._look_at_files()
            self._look_at_end()
            if self._stops and not self._crew.workers:
                break
        if self._fatal:
            raise StartFailed(self._fatal)
        self._journal.note("stopped")
        return 0

    def _wait(self) -> None:
        now_s = time.monotonic()
        until_s = min(self._look_s, now_s + LOOK_S)
        if self._fork_s > now_s:
            until_s = min(until_s, self._fork_s)
        poll = select.poll()
        poll.register(self._signals.fileno(), select.POLLIN)
        for worker in self._crew.workers:
            if not worker.line.closed:
                poll.register(worker.line.fileno(), select.POLLIN)
        poll.poll(max(0.0, until_s - now_s) * 1000)

    # ── workers ───────────────────────────────────────────────────────────────────────────────

    def _fork_missing(self) -> Duty | None:
        """A worker's duty, in it; None in the parent."""
        for batch in (self._serving, self._coming):
            while (
                batch is not None
                and not self._stops
                and time.monotonic() >= self._fork_s
                and len(self._crew.of(batch)) < batch.count
                and self._crew.has_seat(batch)
            ):
                if (duty := self._crew.fork(batch)) is not None:
                    return duty
        return None

    def _hear(self, worker: Worker) -> None:
        for word, content in worker.line.heard():
            match word:
                case Word.READY if worker.state == "starting":
                    worker.state = "serving"
                    self._look_at_batch()
                case Word.FAILED:
                    worker.failure = content.decode()
                case Word.TAKEN:
                    self._taking.discard(worker)
                case Word.REFUSED if worker.state != "ending":
                    self._taking.discard(worker)
                    self._journal.note(
                        f"worker {worker.pid} can't take the settings ({content.decode()}): "
                        "another takes its place"
                    )
                    self._say(worker, Word.RETIRE)

    def _say(self, worker: Worker, word: Word, content: bytes = b"") -> None:
        if word in (Word.RETIRE, Word.STOP, Word.NOW):
            worker.state = "ending"
        if not worker.line.say(word, content):
            self._journal.note(f"worker {worker.pid} is stuck: it is killed")
            os.kill(worker.pid, signal.SIGKILL)

    def _reap(self) -> None:
        for worker in list(self._crew.workers):
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if not pid:
                continue
            self._hear(worker)  # its last words
            self._crew.forget(worker)
            self._taking.discard(worker)
            code = os.waitstatus_to_exitcode(status)
            how = f"was killed by {_name(-code)}" if code < 0 else f"ended with exit code {code}"
            if worker.state == "ending":
                if code < 0 and not self._killed:
                    self._journal.note(f"worker {pid} {how}")
            elif not self._stops:
                self._lost(worker, how)

    def _lost(self, worker: Worker, how: str) -> None:
        """A worker has ended by itself."""
        now_s = time.monotonic()
        soon = worker.state == "starting" or now_s - worker.born_s < _SOON_S
        self._failures = self._failures + 1 if soon else 0
        first_s, most_s = _BACKOFF_S
        if self._failures:
            self._fork_s = now_s + min(most_s, first_s * 2 ** (self._failures - 1))
        if worker.state == "serving":
            self._journal.note(f"worker {worker.pid} {how}: another takes its place")
            return
        reason = worker.failure or how
        if (
            worker.batch is not None
            and worker.batch is self._coming
            and self._crew.has_other(worker)
        ):
            self._journal.note(f"{self._why}: a worker does not start, nothing changes. {reason}")
            self._call_off()
        elif self._failures >= _TRIES and not self._crew.any_serves():
            self._fatal = f"No worker starts. {reason}"
            self._begin_stop()
        else:
            wait_s = max(0.0, self._fork_s - now_s)
            self._journal.note(f"a worker does not start, again in {wait_s:.1f} s. {reason}")

    # ── restarts ──────────────────────────────────────────────────────────────────────────────

    def _look_at_batch(self) -> None:
        """Once all of a new batch serves, it takes the place of the one before."""
        coming = self._coming
        if coming is None:
            return
        serving = [w for w in self._crew.workers if w.batch is coming and w.state == "serving"]
        if len(serving) < coming.count:
            return
        self._serving, self._coming = coming, None
        self._failures = 0
        old = [w for w in self._crew.workers if w.batch is not coming and w.state != "ending"]
        content = orders.pack(shared_out(coming.settings, coming.count))
        for worker in list(self._crew.workers):
            if worker.batch is not None and worker.batch is not coming:
                # An idle connection is left to its client, whose next request may be on its way;
                # it is judged as the new workers would judge it. (Those of a former life have
                # other code, and perhaps other settings.)
                self._say(worker, Word.SETTINGS, content)
        for worker in old:
            self._say(worker, Word.RETIRE)
        if coming.settings is not self._changes.settings:
            self._changes.take(self._why, coming.settings, restarted=True)
        elif old:
            self._journal.note(f"{self._why}: settings taken")
        else:
            self._opened()
        if old:
            self._journal.note(
                f"{coming.count} new workers serve; {len(old)} others end what they have running"
            )
        self._go_on()

    def _call_off(self) -> None:
        """The new batch does not come up: those who serve go on."""
        for worker in self._crew.workers:
            if worker.batch is self._coming:
                self._say(worker, Word.STOP)
        self._coming = None
        self._failures = 0
        if self._serving is None:
            # A former life's go on; whoever of them ends is replaced by one of this life's.
            heirs = [w for w in self._crew.workers if w.batch is None and w.state == "serving"]
            self._serving = Batch.of(self._changes.settings, len(heirs))
            for worker in heirs:
                worker.batch = self._serving
        self._go_on()

    def _begin_restart(self) -> None:
        """New workers, by settings that are loaded anew; by new code, where that has changed."""
        if self._is_busy:
            self._restart = True
            return
        try:
            new = self._changes.load()
            if new.door.open:
                new = second.prepare(new)
        except ConfigError as error:
            self._changes.refuse("restart", error)
            return
        except LlamaKeyError as error:
            self._journal.note(f"restart: nothing changes. {error}")
            return
        if program.fingerprint() != self._program:
            self._rehearsal = program.rehearse()
        else:
            self._coming, self._why = Batch.of(new, self._wishes.workers), "restarted"

    def _look_after_rehearsal(self) -> None:
        """The new code was tried out by a process of its own: if all is well, become it."""
        rehearsal = self._rehearsal
        if rehearsal is None or rehearsal.poll() is None:
            return
        self._rehearsal = None
        if self._stops:
            return
        if rehearsal.returncode:
            assert rehearsal.stderr is not None
            said = rehearsal.stderr.read().decode("utf-8", "replace").strip()[-2000:]
            self._journal.note(f"restart: the new code does not start, nothing changes.\n{said}")
        else:
            self._journal.note("restart: the program's files have changed, and are read anew")
            self._journal.flush()
            heirs = [
                program.Heir(w.pid, w.line.fileno(), "ending" if w.state == "ending" else "serving")
                for w in self._crew.workers
            ]
            addresses = self._addresses()
            error = self._signals.held_back(
                lambda: program.become_anew(addresses, self._listeners, heirs)
            )
            self._journal.note(f"restart: the program can't be started anew ({error})")
        self._go_on()

    def _addresses(self) -> dict[Role, str]:
        settings = self._changes.settings
        addresses: dict[Role, str] = {"front": str(settings.listen)}
        if settings.door.open:
            addresses["door"] = str(settings.door.listen)
        return addresses

    def _begin_reload(self, why: str) -> None:
        if self._is_busy:
            self._reload = True
            return
        self._journal.reopen()
        try:
            new = self._changes.load()
        except ConfigError as error:
            for worker in self._crew.workers:
                self._say(worker, Word.REOPEN)
            self._changes.refuse(why, error)
            return
        assert self._serving is not None, "once the first batch serves there is one"
        self._serving.settings = new  # of those who are forked from now on
        content = orders.pack(shared_out(new, self._serving.count))
        self._told_of = lambda: self._changes.take(why, new)
        self._taking = {w for w in self._crew.workers if w.state != "ending"}
        for worker in list(self._crew.workers):
            self._say(worker, Word.SETTINGS, content)

    def _look_at_reload(self) -> None:
        """Say that the settings are taken, when all have taken them."""
        if not self._taking:
            told, self._told_of = self._told_of, _nothing
            told()
            if told is not _nothing:
                self._go_on()

    @property
    def _is_busy(self) -> bool:
        """Whether a restart or a reload is under way: what comes meanwhile waits for its end."""
        return (
            self._coming is not None or self._rehearsal is not None or self._told_of is not _nothing
        )

    def _go_on(self) -> None:
        """With what had to wait."""
        if self._stops:
            return
        if self._restart:
            self._restart = self._reload = False
            self._begin_restart()
        elif self._reload:
            self._reload = False
            self._begin_reload("SIGHUP")

    # ── signals, files, the end ───────────────────────────────────────────────────────────────

    def _heed(self, number: int) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            self._begin_stop()
        elif number == signal.SIGHUP and not self._stops:
            self._begin_reload("SIGHUP")
        elif number == signal.SIGUSR2 and not self._stops:
            self._begin_restart()

    def _look_at_files(self) -> None:
        now_s = time.monotonic()
        if now_s < self._look_s:
            return
        self._look_s = now_s + LOOK_S
        if self._stops:
            return
        if self._changes.renewal_is_due:
            self._changes.renew()
        if why := self._changes.look():
            self._begin_reload(why)

    def _begin_stop(self) -> None:
        self._stops += 1
        if self._stops == 1:
            self._stopped_s = time.monotonic()
            self._look_s = self._stopped_s + _TELL_S
            for listener in self._listeners:
                listener.close()
            for worker in self._crew.workers:
                self._say(worker, Word.STOP)
            if self._rehearsal is not None:
                self._rehearsal.kill()
        elif self._stops == 2:
            for worker in self._crew.workers:
                self._say(worker, Word.NOW)
        else:
            self._kill()

    def _look_at_end(self) -> None:
        if not self._stops or not self._crew.workers:
            return
        gone_s = time.monotonic() - self._stopped_s
        limit_s = self._changes.settings.limits.drain_timeout_s
        if gone_s > _TELL_S and not self._told and self._stops == 1:
            self._told = True
            self._journal.note(
                f"stopping: waiting up to {limit_s:.0f} s for running requests "
                "(Ctrl-C again to stop at once)"
            )
        if gone_s > limit_s + _GRACE_S:
            self._kill()

    def _kill(self) -> None:
        self._killed = True
        for worker in self._crew.workers:
            os.kill(worker.pid, signal.SIGKILL)


def _nothing() -> None:
    """There is nothing to say."""


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
