"""The ledger in the store's SQLite file, by a connection of its own.

Rows and counters are committed with `synchronous=NORMAL`: in WAL mode a commit is then a write and
no sync, which `kill -9` cannot undo and a loss of power may, for the last moments; nothing is
corrupted by it. Keys, which must not come back, are written by another connection with FULL.

A row's key is the time it was opened, in microseconds: rows of a window stand together, and are
found without an index.
"""

from __future__ import annotations

import functools
import json
import math
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any, Final, NamedTuple

from llamakey_addon.caps import Facts
from llamakey_addon.journey import NO_COUNTS
from llamakey_addon.store import StoreError, sqlite
from llamakey_addon.store.counters import FACTS, Counter, Counters
from llamakey_addon.store.ledger import (
    Alert,
    By,
    CapReached,
    Claim,
    Closing,
    Hold,
    Of,
    Opening,
    Row,
    Size,
    Standing,
    Total,
)
from llamakey_addon.store.processes import Processes
from llamakey_addon.store.windows import Span

#: How long an admission waits for another process's write.
_PATIENCE_S: Final = 1.0
#: Between two tries of one that waits.
_GLANCES_S: Final = (0.00005, 0.001)
#: How long a checkpoint may hold the writers: less than they wait.
_HOLD_S: Final = 0.2
#: The owner's command has time.
_READER_PATIENCE_S: Final = 5.0
_TIDY_S: Final = 600.0
#: How often it is looked whether the file is still the same one.
_IDENTITY_S: Final = 0.1
#: How often what was learned is written.
_HABITS_S: Final = 5.0
#: Beyond which the write-ahead log is emptied, whoever has to wait for that.
_WAL_BYTES: Final = 64 * 1024 * 1024
_SECOND_US: Final = 1_000_000
_MOST: Final = 2**62
_MAIN_KINDS: Final = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
_MAIN: Final = frozenset(_MAIN_KINDS)
_COLUMNS: Final[dict[Of, str]] = {
    "user": "user",
    "team": "team",
    "key": "key_id",
    "provider": "provider",
    "endpoint": "endpoint",
    "model": "model",
    "served": "served",
    "tag": "tag",
    "quality": "quality",
    "status": "status",
}
#: Columns of a row, beside its time and its facts.
_REST: Final = (
    *("id", "status", *_MAIN_KINDS, "other", "cost_nusd", "quality", "served", "priced"),
    *("first_byte_ms", "total_ms", "end", "open", "process"),
)
#: Offsets of time zones are multiples of this, so days can be told from such buckets of time.
_QUARTER_US: Final = 900 * _SECOND_US
_GONE: Final = "the proxy was killed"

_INSERT: Final = (
    f"INSERT INTO ledger (time_us, process, id, {FACTS}, "  # noqa: S608
    "input_tokens, output_tokens, cost_nusd) "
    f"VALUES ({', '.join('?' * 15)})"
)
_CLOSE: Final = (
    "UPDATE ledger SET open = 0, status = ?, input_tokens = ?, output_tokens = ?, "
    "cache_read_tokens = ?, cache_write_tokens = ?, other = ?, cost_nusd = ?, quality = ?, "
    "served = ?, priced = ?, first_byte_ms = ?, total_ms = ?, end = ? "
    "WHERE time_us = ? AND open = 1"
)


class _Settlement:
    """A closing that waits to be committed."""

    __slots__ = ("claims", "closing", "cost_nusd", "hold", "job", "tokens", "values")

    def __init__(self, hold: Hold, closing: Closing, claims: Sequence[Claim]) -> None:
        self.hold = hold
        self.closing = closing
        self.claims = claims
        # All is made fit for the file here, where a failure is this request's alone.
        self.job, served, priced, end = _texts(
            (closing.job, closing.served, closing.priced, closing.end)
        )
        counts = closing.counts
        main = [_bounded(counts.get(kind, 0)) for kind in _MAIN_KINDS]
        others = None
        if not counts.keys() <= _MAIN:
            others = {kind: _bounded(counts[kind]) for kind in counts if kind not in _MAIN}
        self.tokens = main[0] + main[1]
        self.cost_nusd = _bounded(closing.cost_nusd)
        self.values = (
            closing.status,
            *main,
            json.dumps(others, separators=(",", ":")) if others else "",
            self.cost_nusd,
            closing.quality,
            served,
            priced,
            closing.first_byte_ms,
            closing.total_ms,
            end,
            hold.row,
        )


class _Held(NamedTuple):
    """What a row takes of its claims."""

    claims: Sequence[Claim]
    tokens: int
    cost_nusd: int
    requests: bool
    """Whether those of requests are among it."""


class SqliteLedger:
    """See `Ledger`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._cursor: sqlite3.Cursor | None = None
        """For what each transaction does: one that is there need not be made."""
        self._identity = (0, 0)
        self._version = -1
        self._processes = Processes(path)
        self._counters = Counters()
        self._waiting: list[_Settlement] = []
        self._habits: dict[tuple[str, str, str, str], Callable[[], Mapping[str, float]]] = {}
        self._habits_s = self._looked_s = -math.inf
        self._last_us = 0
        self._impatient = False
        self._tidied_s = 0.0
        self._closed = False
        self._caps = ""
        self._alerts: list[Alert] = []
        self.epoch = 0
        self.written = 0
        self.checkpoints_elsewhere = False
        self.waiting: Callable[[], None] | None = None
        self.warn: Callable[[Alert], None] | None = None

    # --- the running proxy ------------------------------------------------------------------------

    def renew(self, caps: Collection[str], zone: str) -> None:
        text = json.dumps({"caps": sorted(set(caps)), "zone": zone})
        if text == self._caps:
            return
        with self._write() as connection:
            (last,) = connection.execute("SELECT caps FROM ledger_caps").fetchone()
            # Those of the last run, and of this one until now: another process may have others.
            known = [json.loads(each) for each in (last, self._caps) if each]
            if any(each != json.loads(text) for each in known) or not last:
                kept = set(caps).intersection(*(each["caps"] for each in known)) if known else set()
                same_zone = bool(known) and all(each["zone"] == zone for each in known)
                connection.execute("UPDATE ledger_caps SET caps = ?", (text,))
                self._counters.doubt(connection, kept, same_zone=same_zone)
        self._caps = text
        self.epoch += 1

    def ask(self, opening: Opening, claims: Sequence[Claim]) -> Hold:
        return Hold(opening, claims, self.epoch)

    def admit_all(self, holds: Sequence[Hold]) -> None:
        wanted = [hold for hold in holds if not hold.closed]
        if not wanted:
            return
        openings = [_opening(hold.opening) for hold in wanted]  # before anybody waits for us
        with self._write() as connection:
            reached = [self._reserve(connection, hold) for hold in wanted]
            rows = self._insert(
                connection,
                [values for values, why in zip(openings, reached, strict=True) if why is None],
            )
        for hold, why in zip(wanted, reached, strict=True):
            hold.reached = why
            if why is None:
                hold.row = next(rows)

    def admit(self, opening: Opening, claims: Sequence[Claim]) -> Hold:
        hold = self.ask(opening, claims)
        self.admit_all([hold])
        if hold.reached is not None:  # what others have settled was committed all the same
            raise hold.reached
        return hold

    def readmit(
        self, hold: Hold, opening: Opening, claims: Sequence[Claim], *, again: bool
    ) -> None:
        if hold.closed:
            return
        reached: CapReached | None = None
        held = _Held(
            hold.claims, hold.opening.input_tokens + hold.output_tokens, hold.cost_nusd, not again
        )
        wanted = _Held(
            claims, opening.input_tokens + opening.output_tokens, opening.cost_nusd, True
        )
        with self._write() as connection:
            self._take(connection, held, -1)
            counters = [self._counter(connection, claim, opening.facts) for claim in claims]
            standings = [
                self._standing(connection, claim, counter, opening.facts, opening.time_s)
                for claim, counter in zip(claims, counters, strict=True)
            ]
            reached = _worst(standings)
            if reached is None:
                connection.execute(
                    "UPDATE ledger SET model = ?, input_tokens = ?, output_tokens = ?, "
                    "cost_nusd = ? WHERE time_us = ? AND open = 1",
                    (
                        _text(opening.facts.model),
                        _bounded(opening.input_tokens),
                        _bounded(opening.output_tokens),
                        _bounded(opening.cost_nusd),
                        hold.row,
                    ),
                )
            self._take(connection, held if reached is not None else wanted, 1)
        if reached is not None:
            raise reached
        hold.opening, hold.epoch = opening, self.epoch
        hold.claims = tuple(claims)
        hold.left = tuple(max(0, each.left - each.claim.amount) for each in standings)
        hold.output_tokens, hold.cost_nusd = opening.output_tokens, opening.cost_nusd

    def _take(self, connection: sqlite3.Connection, held: _Held, sign: int) -> None:
        """Reserve this; with a `sign` of -1 give it back."""
        for claim in held.claims:
            match claim.cap.unit:
                case "requests":
                    if held.requests:
                        self._change(connection, claim, sign, 0)
                case "concurrent":
                    self._change(connection, claim, 0, sign)
                case "tokens":
                    self._change(connection, claim, 0, sign * held.tokens)
                case "nusd":
                    self._change(connection, claim, 0, sign * held.cost_nusd)

    def extend(self, hold: Hold, *sizes: Size) -> None:
        more: dict[str, int] = {}
        reached: CapReached | None = None
        if hold.closed:
            return
        with self._write() as connection:
            for size in sizes:
                more = {
                    "tokens": max(0, _bounded(size.output_tokens) - hold.output_tokens),
                    "nusd": max(0, _bounded(size.cost_nusd) - hold.cost_nusd),
                }
                reached = self._lacking(connection, hold, more, size.plenty)
                if reached is None:
                    break
            if reached is None and any(more.values()):
                connection.execute(
                    "UPDATE ledger SET output_tokens = output_tokens + ?, "
                    "cost_nusd = cost_nusd + ? WHERE time_us = ? AND open = 1",
                    (more["tokens"], more["nusd"], hold.row),
                )
                for claim in hold.claims:
                    added = more.get(claim.cap.unit, 0)
                    if added:
                        self._change(connection, claim, 0, added)
        if reached is not None:
            raise reached
        hold.output_tokens += more["tokens"]
        hold.cost_nusd += more["nusd"]

    def _lacking(
        self, connection: sqlite3.Connection, hold: Hold, more: Mapping[str, int], plenty: int
    ) -> CapReached | None:
        """The cap that has not so much left."""
        reached: CapReached | None = None
        for claim in hold.claims:
            counter = self._counters.find(connection, claim.scope, claim.span.start_s)
            unit = claim.cap.unit
            looks = unit == "nusd" or (unit == "tokens" and plenty > 1)
            if not looks or not claim.cap.hard or counter is None:
                continue
            if counter.used + plenty * more[unit] > claim.cap.most:
                standing = Standing(claim, counter.settled, counter.reserved)
                reached = CapReached(standing, spent=True)
        return reached

    def settle(self, hold: Hold, closing: Closing, claims: Sequence[Claim] | None = None) -> None:
        if hold.closed:
            return
        if not hold.row:
            hold.closed = True
            return
        settlement = _Settlement(hold, closing, hold.claims if claims is None else claims)
        hold.closed = True
        self._waiting.append(settlement)
        if self.waiting is None:
            self.flush()
        elif len(self._waiting) == 1:
            self.waiting()

    def settle_as_held(self, hold: Hold, end: str, status: int = 0) -> None:
        counts = {"input_tokens": hold.opening.input_tokens, "output_tokens": hold.output_tokens}
        self.settle(hold, Closing(status, end, "estimated", counts, hold.cost_nusd))

    def booked(self, provider: str, job: str) -> bool:
        job = _text(job)
        for settlement in self._waiting:
            if settlement.job == job and settlement.hold.opening.facts.provider == provider:
                return True
        with self._errors():
            found = self._open().execute(
                "SELECT 1 FROM job WHERE provider = ? AND job = ?", (provider, job)
            )
            return found.fetchone() is not None

    def first(self, name: str, until_s: float) -> bool:
        with self._write() as connection:
            done = connection.execute(
                "INSERT OR IGNORE INTO once (name, until_s) VALUES (?, ?)",
                (name, math.ceil(until_s)),
            )
            return bool(done.rowcount)

    def flush(self) -> None:
        if self._waiting:
            with self._write():
                pass

    def checkpoint(self) -> None:
        connection = sqlite._connect(self._path, must_exist=True, synchronous="NORMAL")
        try:
            connection.execute("PRAGMA busy_timeout = 0")
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
            wal = self._path.with_name(f"{self._path.name}-wal")
            if wal.exists() and wal.stat().st_size > _WAL_BYTES:
                # Under steady load it never ends by itself: hold the writers for a moment.
                connection.execute(f"PRAGMA busy_timeout = {_HOLD_S * 1000:.0f}")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            connection.close()

    def standing(self, facts: Facts, claims: Sequence[Claim], now_s: float) -> list[Standing]:
        self.flush()
        with self._errors():
            connection = self._open()
            found = []
            for claim in claims:
                span = claim.span
                peek = functools.partial(
                    self._counters.peek, connection, claim.bound, claim.scope, facts
                )
                found.append(
                    self._standing(
                        connection,
                        claim,
                        peek(span.start_s, span.end_s),
                        facts,
                        now_s,
                        before=peek(span.before_s, span.start_s) if span.slides else None,
                    )
                )
            return found

    def recover(self) -> int:
        closed = 0
        with self._errors():
            connection = self._open()
            open_of = {
                name
                for (name,) in connection.execute(
                    "SELECT DISTINCT process FROM ledger WHERE open = 1"
                )
            }
            for name in open_of.union(self._processes.others()) - {self._processes.name}:
                with self._processes.dead(name) as dead:
                    if dead and name in open_of:
                        closed += self._close_of(name)
            self._tidy()
        return closed

    def _close_of(self, name: str) -> int:
        with self._write() as connection:
            closed = connection.execute(
                "UPDATE ledger SET open = 0, end = ? WHERE open = 1 AND process = ? "  # noqa: S608
                f"RETURNING time_us, input_tokens + output_tokens, cost_nusd, {FACTS}",
                (_GONE, name),
            ).fetchall()
            self._counters.settle_as_held(
                connection, [(row[0], Facts(*row[3:]), row[1], row[2]) for row in closed]
            )
        return len(closed)

    def _tidy(self) -> None:
        """Remove, now and then, what nobody asks for any more."""
        now_s = time.time()
        if now_s - self._tidied_s < _TIDY_S:
            return
        self._tidied_s = now_s
        with self._write() as connection:
            connection.execute("DELETE FROM counter WHERE keep_s < ?", (int(now_s),))
            connection.execute("DELETE FROM once WHERE until_s < ?", (int(now_s),))
            self._counters.forget()

    def learned(self, key_id: str, provider: str, endpoint: str, model: str) -> Mapping[str, float]:
        with self._errors():
            row = (
                self._open()
                .execute(
                    "SELECT figures FROM habit "
                    "WHERE key_id = ? AND provider = ? AND endpoint = ? AND model = ?",
                    (key_id, provider, endpoint, model),
                )
                .fetchone()
            )
        figures: dict[str, float] = {} if row is None else json.loads(row[0])
        return figures

    def remember(
        self,
        key_id: str,
        provider: str,
        endpoint: str,
        model: str,
        figures: Callable[[], Mapping[str, float]],
    ) -> None:
        self._habits[key_id, provider, endpoint, model] = figures

    # --- the owner's command ----------------------------------------------------------------------

    def totals(
        self,
        since_s: float,
        until_s: float,
        by: Sequence[By],
        where: Mapping[Of, str] | None = None,
        zone: tzinfo = UTC,
    ) -> list[Total]:
        chosen, values = _where(since_s, until_s, where)
        groups = [f"time_us / {_QUARTER_US}" if of == "day" else _COLUMNS[of] for of in by]
        sql = (
            f"SELECT {''.join(f'{group}, ' for group in groups)}"  # noqa: S608  all ours
            "count(*), sum(open), sum(open = 0 AND (status = 0 OR status >= 400)), "
            "sum(quality = 'estimated'), sum(quality = 'unpriced'), "
            "sum(input_tokens), sum(output_tokens), sum(cache_read_tokens), "
            f"sum(cache_write_tokens), sum(cost_nusd) FROM ledger WHERE {chosen} "
            f"GROUP BY {', '.join(groups) or 'NULL'}"
        )
        sums: dict[tuple[str, ...], list[int]] = {}
        with self._errors():
            for row in self._open().execute(sql, values):
                of = tuple(
                    _day(value, zone) if group == "day" else str(value)
                    for group, value in zip(by, row[: len(by)], strict=True)
                )
                figures = sums.setdefault(of, [0] * 10)
                for index, value in enumerate(row[len(by) :]):
                    figures[index] += value
        totals = [Total(of, *figures) for of, figures in sums.items()]
        return sorted(totals, key=lambda total: (-total.cost_nusd, -total.requests, total.of))

    def rows(
        self, since_s: float, until_s: float, where: Mapping[Of, str] | None = None
    ) -> Iterator[Row]:
        chosen, values = _where(since_s, until_s, where)
        sql = (
            f"SELECT time_us, {FACTS}, {', '.join(_REST)} FROM ledger "  # noqa: S608
            f"WHERE {chosen} ORDER BY time_us"
        )
        with self._errors():
            for row in self._open().execute(sql, values):
                yield _row(row)

    # --- life -------------------------------------------------------------------------------------

    def close(self) -> None:
        if not self._closed:
            if self._waiting or self._habits:
                with suppress(StoreError), self._write(all_of_it=True):
                    pass
            self._closed = True
        if self._connection is not None:
            self._connection.close()
            self._connection = None
            self._processes.leave()

    # --- within a transaction ---------------------------------------------------------------------

    def _counter(self, connection: sqlite3.Connection, claim: Claim, facts: Facts) -> Counter:
        span = claim.span
        return self._counters.get(
            connection, claim.bound, claim.scope, facts, span.start_s, span.end_s
        )

    def _standing(
        self,
        connection: sqlite3.Connection,
        claim: Claim,
        counter: Counter,
        facts: Facts,
        now_s: float,
        *,
        before: Counter | None = None,
    ) -> Standing:
        cap, span, settled = claim.cap, claim.span, counter.settled
        if not claim.amount:
            return Standing(claim, settled, counter.reserved)
        if span.slides:
            before = before or self._before(connection, claim, counter, facts)
            return _sliding(claim, counter, before.used, now_s)
        if cap.unit == "concurrent":
            over = counter.used + claim.amount > cap.most
            return Standing(claim, settled, counter.reserved, 1.0 if over else 0.0)
        free_in_s = 0.0
        if settled + claim.amount > cap.most:
            free_in_s = float("inf")
        elif counter.used + claim.amount > cap.most:
            free_in_s = 1.0
        return Standing(claim, settled, counter.reserved, free_in_s)

    def _before(
        self, connection: sqlite3.Connection, claim: Claim, counter: Counter, facts: Facts
    ) -> Counter:
        """The bucket before a sliding window's."""
        if counter.before is None:
            span = claim.span
            counter.before = self._counters.get(
                connection, claim.bound, claim.scope, facts, span.before_s, span.start_s
            )
        return counter.before

    def _reserve(self, connection: sqlite3.Connection, hold: Hold) -> CapReached | None:
        """Take what a row's claims take; what stands against it, where nothing was taken."""
        claims, time_s, facts = hold.claims, hold.opening.time_s, hold.opening.facts
        known = self._counters.known
        counters: list[Counter] = []
        left: list[int] = []
        room = True
        for claim in claims:
            bound, scope, span, amount = claim
            counter = known.get((scope, span.start_s)) or self._counter(connection, claim, facts)
            counters.append(counter)
            cap = bound.cap
            free = cap.most - counter.settled - counter.reserved - amount
            if span.slides:
                before = counter.before or self._before(connection, claim, counter, facts)
                if before.settled or before.reserved:
                    free -= _weighted(span, before.used, time_s)
            if free < 0:
                free = 0
                if cap.hard and amount:
                    room = False
            left.append(free)
        if not room:  # look closely: who stands against it, and for how long
            reached = _worst(
                [
                    self._standing(connection, claim, counter, facts, time_s)
                    for claim, counter in zip(claims, counters, strict=True)
                ]
            )
            if reached is not None:
                return reached
        for claim, counter in zip(claims, counters, strict=True):
            if claim.bound.cap.unit == "requests":
                counter.settled += 1
            else:
                counter.reserved += claim.amount
        self._counters.changed.update(counters)
        hold.left = left
        return None

    def _insert(
        self, connection: sqlite3.Connection, openings: Sequence[Sequence[Any]]
    ) -> Iterator[int]:
        """Open rows; their keys."""
        rows: list[list[Any]] = []
        last_us, process = self._last_us, self._processes.name
        for time_us, *values in openings:
            if 0 <= last_us - time_us < 1000:
                time_us = last_us + 1  # the clock is not that fine, or was set back by a moment
            last_us = time_us
            rows.append([time_us, process, *values])
        inserted = 0
        while inserted < len(rows):
            before = connection.total_changes
            try:
                connection.executemany(_INSERT, rows[inserted:])
                inserted = len(rows)
            except sqlite3.IntegrityError as error:
                if error.sqlite_errorname != "SQLITE_CONSTRAINT_PRIMARYKEY":
                    raise
                inserted += connection.total_changes - before
                rows[inserted][0] += 1  # another request of the same microsecond
        if rows:
            self._last_us = rows[-1][0]
        return iter([time_us for time_us, *_ in rows])

    def _change(
        self, connection: sqlite3.Connection, claim: Claim, settled: int, reserved: int
    ) -> None:
        """Change a counter, where it is still there."""
        bound, scope, span, _ = claim
        counters = self._counters
        counter = counters.known.get((scope, span.start_s))
        if counter is None:
            counter = counters.find(connection, scope, span.start_s)
            if counter is None:
                return
        counter.settled += settled
        counter.reserved += reserved
        counters.changed.add(counter)
        if settled and bound.cap.warn_at:
            self._look_at_thresholds(claim, counter)

    def _look_at_thresholds(self, claim: Claim, counter: Counter) -> None:
        cap, passed = claim.cap, 0
        for threshold in cap.warn_at:
            if counter.settled * 100 >= threshold * cap.most and threshold > passed:
                passed = threshold
        if passed > counter.warned:
            self._alerts.append(Alert(cap, claim.scope, passed, counter.settled))
        counter.warned = passed  # lower where the budget was raised

    def _commit_waiting(self, connection: sqlite3.Connection, cursor: sqlite3.Cursor) -> None:
        for settlement in list(self._waiting):
            try:
                self._close_row(connection, cursor, settlement)
            except sqlite3.OperationalError:
                raise
            except BaseException:
                # It would fail again, and everything with it: its row stays open, for the next
                # process to close.
                self._waiting.remove(settlement)
                raise

    def _close_row(
        self, connection: sqlite3.Connection, cursor: sqlite3.Cursor, settlement: _Settlement
    ) -> None:
        hold = settlement.hold
        if settlement.job and not _first_of(connection, settlement):
            nothing = replace(settlement.closing, counts=NO_COUNTS, cost_nusd=0, job="")
            settlement = _Settlement(hold, replace(nothing, quality="none"), settlement.claims)
        if not cursor.execute(_CLOSE, settlement.values).rowcount:
            return
        held = hold.opening.input_tokens + hold.output_tokens
        for claim in settlement.claims:
            match claim.bound.cap.unit:
                case "concurrent":
                    self._change(connection, claim, 0, -1)
                case "tokens":
                    self._change(connection, claim, settlement.tokens, -held)
                case "nusd":
                    self._change(connection, claim, settlement.cost_nusd, -hold.cost_nusd)

    def _write_habits(self, connection: sqlite3.Connection) -> None:
        connection.executemany(
            "INSERT INTO habit (key_id, provider, endpoint, model, figures) "
            "VALUES (?, ?, ?, ?, ?) ON CONFLICT (key_id, provider, endpoint, model) "
            "DO UPDATE SET figures = excluded.figures",
            [(*name, json.dumps(dict(figures()))) for name, figures in self._habits.items()],
        )

    @contextmanager
    def _write(self, *, all_of_it: bool = False) -> Iterator[sqlite3.Connection]:
        """A write transaction that begins with what waits. Nothing is kept of one that fails.

        What was learned is written now and then, or with `all_of_it`.
        """
        now_s = time.monotonic()
        habits = bool(self._habits) and (all_of_it or now_s - self._habits_s > _HABITS_S)
        connection: sqlite3.Connection | None = None
        try:
            connection, cursor = self._begin(now_s)
            (version,) = cursor.execute("PRAGMA data_version").fetchone()
            if version != self._version:  # another process has committed
                self._counters.forget()
                self._version = version
            if self._waiting:
                self._commit_waiting(connection, cursor)
            if habits:
                self._write_habits(connection)
            yield connection
            self._counters.write(connection)
            cursor.execute("COMMIT")
        except BaseException as error:
            self._counters.forget()
            self._alerts.clear()
            if connection is not None and connection.in_transaction:
                connection.execute("ROLLBACK")
            if isinstance(error, (sqlite3.Error, OSError)):
                raise self._told(error) from error
            raise
        self._waiting.clear()
        self.written += 1
        if habits:
            self._habits.clear()
            self._habits_s = now_s
        if self._alerts:
            alerts, self._alerts = self._alerts, []
            for alert in alerts:
                if self.warn is not None:
                    self.warn(alert)

    def _begin(self, now_s: float) -> tuple[sqlite3.Connection, sqlite3.Cursor]:
        connection = self._connection
        if connection is None or now_s - self._looked_s > _IDENTITY_S:
            connection = self._open()
            self._looked_s = now_s
        if not self._processes.name:
            self._processes.enter()
            connection.execute("PRAGMA busy_timeout = 0")
        cursor = self._cursor
        if cursor is None or cursor.connection is not connection:
            cursor = self._cursor = connection.cursor()
        end_s = 0.0
        glance_s = _GLANCES_S[0]
        while True:
            try:
                cursor.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if not error.sqlite_errorname.startswith("SQLITE_BUSY"):
                    raise
                if not end_s:
                    # Whoever comes after one that waited in vain does not wait, until one gets
                    # through.
                    end_s = now_s + (0.0 if self._impatient else _PATIENCE_S)
                if time.monotonic() >= end_s:
                    self._impatient = True
                    raise
                # Others write for some 0.1 ms; SQLite's own wait begins with a whole one.
                time.sleep(glance_s)
                glance_s = min(2 * glance_s, _GLANCES_S[1])
            else:
                self._impatient = False
                return connection, cursor

    def _open(self) -> sqlite3.Connection:
        """The connection; anew where another file has come into the store's place."""
        if self._closed:
            raise StoreError("The ledger is closed. Open the store again with open_store.")
        identity = sqlite._identity(self._path)
        if self._connection is not None and identity != self._identity:
            self._connection.close()
            self._connection = None
            self._counters.forget()
            self._processes.leave()  # what is open there under our name is nobody's
        if self._connection is None:
            self._connection = sqlite._connect(self._path, must_exist=True, synchronous="NORMAL")
            self._connection.execute(f"PRAGMA busy_timeout = {_READER_PATIENCE_S * 1000:.0f}")
            if self.checkpoints_elsewhere:
                self._connection.execute("PRAGMA wal_autocheckpoint = 0")
            self._identity = identity
            self._version = -1
        return self._connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """SQLite's and the system's errors as ours."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise self._told(error) from error

    def _told(self, error: sqlite3.Error | OSError) -> StoreError:
        if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorname.startswith(
            "SQLITE_BUSY"
        ):
            return StoreError(
                f"Another process holds the ledger in {self._path}. Try again, or end that process."
            )
        return StoreError(
            f"The ledger in {self._path} failed ({error}). See to disk space and permissions; if "
            "the file is damaged, put back a backup."
        )


# --- figures --------------------------------------------------------------------------------------


def _sliding(claim: Claim, counter: Counter, before: int, now_s: float) -> Standing:
    """Where a sliding window is: this bucket, and the one before in proportion."""
    most, span = claim.cap.most, claim.span
    length_ms = span.length_s * 1000
    gone_ms = _gone_ms(span, now_s)
    weighted = _weighted(span, before, now_s)
    # A request that is estimated at more than all passes when there is nothing else.
    room = most - min(claim.amount, most)
    free_in_ms = 0.0
    if counter.used + weighted > room:
        if counter.used <= room:
            free_in_ms = length_ms * (1 - (room - counter.used) / before) - gone_ms
        else:
            free_in_ms = length_ms - gone_ms + length_ms * (1 - room / counter.used)
        free_in_ms = max(1.0, free_in_ms)
    return Standing(claim, counter.settled + weighted, counter.reserved, free_in_ms / 1000)


def _gone_ms(span: Span, now_s: float) -> int:
    """How much of a bucket is over."""
    return min(max(0, int(now_s * 1000) - span.start_s * 1000), span.length_s * 1000)


def _weighted(span: Span, before: int, now_s: float) -> int:
    """What of the bucket before is still within the window, rounded up."""
    if not before:
        return 0
    length_ms = (span.end_s - span.start_s) * 1000
    left_ms = span.end_s * 1000 - int(now_s * 1000)
    if left_ms > length_ms:
        return before
    return -(-before * left_ms // length_ms) if left_ms > 0 else 0


def _worst(standings: Sequence[Standing]) -> CapReached | None:
    """The cap that stands longest against a request, if one does."""
    against = [each for each in standings if each.free_in_s and each.claim.cap.hard]
    if not against:
        return None
    worst = max(against, key=lambda each: each.free_in_s)
    return CapReached(worst, spent=worst.free_in_s == float("inf"))


def _first_of(connection: sqlite3.Connection, settlement: _Settlement) -> bool:
    """Whether nobody else has booked this job."""
    hold = settlement.hold
    connection.execute(
        "INSERT OR IGNORE INTO job (provider, job, time_us) VALUES (?, ?, ?)",
        (hold.opening.facts.provider, settlement.job, hold.row),
    )
    (row,) = connection.execute(
        "SELECT time_us FROM job WHERE provider = ? AND job = ?",
        (hold.opening.facts.provider, settlement.job),
    ).fetchone()
    return bool(row == hold.row)


def _row(row: Sequence[Any]) -> Row:
    rest = dict(zip(_REST, row[10:], strict=True))
    rest["other"] = json.loads(rest["other"]) if rest["other"] else {}
    rest["open"] = bool(rest["open"])
    return Row(time_s=row[0] / _SECOND_US, facts=Facts(*row[1:10]), **rest)


def _where(since_s: float, until_s: float, where: Mapping[Of, str] | None) -> tuple[str, list[Any]]:
    chosen = ["time_us >= ?", "time_us < ?"]
    values: list[Any] = [
        max(0, min(int(time_s * _SECOND_US), _MOST)) for time_s in (since_s, until_s)
    ]
    for of, value in (where or {}).items():
        chosen.append(f"{_COLUMNS[of]} = ?")
        values.append(int(value) if of == "status" and value.isdigit() else value)
    return " AND ".join(chosen), values


def _day(quarter: int, zone: tzinfo) -> str:
    return datetime.fromtimestamp(quarter * 900, zone).date().isoformat()


def _opening(opening: Opening) -> tuple[Any, ...]:
    """A row's time and values, fit for the file."""
    id, time_s, facts, input_tokens, output_tokens, cost_nusd = opening
    return (
        max(int(time_s * _SECOND_US), 0),
        id,
        *_texts(facts),
        _bounded(input_tokens),
        _bounded(output_tokens),
        _bounded(cost_nusd),
    )


def _bounded(count: int) -> int:
    if count.__class__ is int and 0 <= count <= _MOST:
        return count
    return max(0, min(int(count), _MOST))


def _texts(texts: tuple[str, ...]) -> Iterable[str]:
    """Each as UTF-8 can hold it."""
    return texts if "".join(texts).isascii() else map(_text, texts)


def _text(text: str) -> str:
    """Text as UTF-8 can hold it."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
