"""The counters of caps: sums of the ledger's rows, kept in a table and in memory.

Memory is right while no other process has committed, which the ledger looks at once it has the
write lock. Changes are collected and written once a transaction, so that a counter that many
requests share costs one write for all of them, and none where what one has taken another gives
back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence, Set
from typing import Final

from llamakey_addon.caps import FIELDS, Bound, Facts
from llamakey_addon.journey import Cap

#: What a row says of its request, in the order of `Facts`.
FACTS: Final = "user, key_id, team, provider, endpoint, method, path, model, tag"
_KEPT: Final = 20_000
_SECOND_US: Final = 1_000_000
_KEPT_WINDOWS: Final = 3
"""For how many lengths of its window a counter is kept."""
_INT64: Final = 2**63 - 1


type _Name = tuple[str, int]
"""Scope, and start of the window."""


class Counter:
    """One counter in one window."""

    __slots__ = ("before", "name", "reserved", "settled", "stored", "warned")

    def __init__(self, name: _Name, settled: int, reserved: int, warned: int = 0) -> None:
        self.name = name
        self.settled = settled
        self.reserved = reserved
        self.warned = warned
        """The highest threshold, in per cent, that was told of."""
        self.stored = (settled, reserved, warned)
        """As the table has it."""
        self.before: Counter | None = None
        """Of the bucket before, where it is one of a sliding window's and was asked for."""

    @property
    def used(self) -> int:
        return self.settled + self.reserved


class Counters:
    """Used within a write transaction alone, but for `peek`."""

    def __init__(self) -> None:
        self.known: dict[_Name, Counter] = {}
        """Those that are in memory: a look here saves a call."""
        self.changed: set[Counter] = set()
        """To be written at the end of the transaction."""

    def forget(self) -> None:
        """What is in memory may be wrong."""
        self.known.clear()
        self.changed.clear()

    def get(
        self,
        connection: sqlite3.Connection,
        bound: Bound,
        scope: str,
        facts: Facts,
        start_s: int,
        end_s: int,
    ) -> Counter:
        """A counter; one that is not there is summed up, for the group that `facts` are of."""
        found = self.find(connection, scope, start_s)
        if found is None:
            settled, reserved = _sum(connection, bound, facts, start_s, end_s)
            # It stays for as long as the window after its own, of which it is a part where it
            # slides, and the one after that, in which answers may still end.
            keep_s = start_s + _KEPT_WINDOWS * (end_s - start_s)
            connection.execute(
                "INSERT INTO counter (scope, start_s, keep_s, settled, reserved, warned) "
                "VALUES (?, ?, ?, ?, ?, 0) ON CONFLICT (scope, start_s) DO UPDATE "
                "SET settled = excluded.settled, reserved = excluded.reserved, stale = 0 "
                "RETURNING warned",
                (scope, start_s, keep_s, settled, reserved),
            )
            found = self.find(connection, scope, start_s)
            assert found is not None
        return found

    def find(self, connection: sqlite3.Connection, scope: str, start_s: int) -> Counter | None:
        """A counter, where it is there and not stale."""
        name = (scope, start_s)
        known = self.known.get(name)
        if known is None:
            known = _read(connection, scope, start_s)
            if known is not None:
                self.known[name] = known
        return known

    def peek(
        self,
        connection: sqlite3.Connection,
        bound: Bound,
        scope: str,
        facts: Facts,
        start_s: int,
        end_s: int,
    ) -> Counter:
        """A counter as the table or the rows have it; nothing is kept."""
        found = _read(connection, scope, start_s)
        if found is None:
            found = Counter((scope, start_s), *_sum(connection, bound, facts, start_s, end_s))
        return found

    def doubt(self, connection: sqlite3.Connection, kept: Set[str], *, same_zone: bool) -> None:
        """Have counters summed up anew when they are next asked for, but for those of these caps,
        which were kept up all the time, and of keys, whose caps never change."""

        def is_kept(scope: str) -> bool:
            try:
                bound, _ = Bound.of_scope(scope)
            except (ValueError, TypeError):
                return False
            return (bound.name in kept or bound.cap.subject[0] == "key") and (
                same_zone or bound.cap.unit != "nusd"
            )

        scopes = connection.execute("SELECT DISTINCT scope FROM counter WHERE stale = 0").fetchall()
        connection.executemany(
            "UPDATE counter SET stale = 1, reserved = 0 WHERE scope = ?",
            [scope for scope in scopes if not is_kept(*scope)],
        )
        self.forget()

    def settle_as_held(
        self, connection: sqlite3.Connection, rows: Sequence[tuple[int, Facts, int, int]]
    ) -> None:
        """Rows that a dead process left open were closed as they are: what counters have reserved
        for them is settled.

        Arguments:
            rows: time in microseconds, facts, tokens, nano-dollars of each.
        """
        self.forget()
        reserving = connection.execute(
            "SELECT scope, start_s, keep_s, settled, reserved, warned FROM counter "
            "WHERE reserved <> 0 AND stale = 0"
        ).fetchall()
        for scope, start_s, keep_s, settled, reserved, warned in reserving if rows else ():
            bound, values = Bound.of_scope(scope)
            end_s = start_s + (keep_s - start_s) // _KEPT_WINDOWS
            moved = given_back = 0
            for time_us, facts, tokens, nusd in rows:
                if (
                    start_s * _SECOND_US <= time_us < end_s * _SECOND_US
                    and bound.is_of(facts)
                    and bound.fits(facts)
                    and [bound.value(group, facts) for group in bound.cap.each] == values
                ):
                    given_back += {"tokens": tokens, "nusd": nusd}.get(bound.cap.unit, 1)
                    moved += {"tokens": tokens, "nusd": nusd}.get(bound.cap.unit, 0)
            if given_back:
                counter = Counter((scope, start_s), settled, reserved, warned)
                counter.settled += moved
                counter.reserved = max(0, reserved - given_back)
                self.changed.add(counter)

    def write(self, connection: sqlite3.Connection) -> None:
        """Write what has changed."""
        if self.changed:
            values = []
            for counter in self.changed:
                now = (counter.settled, counter.reserved, counter.warned)
                if now != counter.stored:
                    counter.stored = now
                    values.append((*now, *counter.name))
            connection.executemany(
                "UPDATE counter SET settled = ?, reserved = ?, warned = ? "
                "WHERE scope = ? AND start_s = ?",
                values,
            )
            self.changed.clear()
        if len(self.known) > _KEPT:
            self.known.clear()


def _read(connection: sqlite3.Connection, scope: str, start_s: int) -> Counter | None:
    row = connection.execute(
        "SELECT settled, reserved, warned FROM counter "
        "WHERE scope = ? AND start_s = ? AND stale = 0",
        (scope, start_s),
    ).fetchone()
    return None if row is None else Counter((scope, start_s), *row)


# --- from the rows --------------------------------------------------------------------------------


def _sum(
    connection: sqlite3.Connection, bound: Bound, facts: Facts, start_s: int, end_s: int
) -> tuple[int, int]:
    """What is settled and reserved."""
    cap = bound.cap
    settled = reserved = 0
    for row, is_open, count, tokens, nusd in _groups(connection, cap, facts, start_s, end_s):
        if not (bound.is_of(row) and bound.fits(row) and _same_group(bound, row, facts)):
            continue
        match cap.unit:
            case "requests":
                settled += count
            case "concurrent":
                reserved += count
            case "tokens":
                settled, reserved = settled + tokens * (not is_open), reserved + tokens * is_open
            case "nusd":
                settled, reserved = settled + nusd * (not is_open), reserved + nusd * is_open
    return settled, reserved


def _groups(
    connection: sqlite3.Connection, cap: Cap, facts: Facts, start_s: int, end_s: int
) -> Iterator[tuple[Facts, int, int, int, int]]:
    """Sums over rows that are alike in all that the cap looks at; the rest of their facts is left
    empty. Names of users are compared in Python, which knows how."""
    columns = {
        "user": cap.subject[0] == "user" or "user" in cap.each,
        "key_id": cap.subject[0] == "key" or "key" in cap.each,
        "team": cap.subject[0] == "team" or "team" in cap.each,
        "provider": bool(cap.of.providers) or "provider" in cap.each,
        "endpoint": bool(cap.of.paths),
        "method": bool(cap.of.methods),
        "path": bool(cap.of.paths),
        "model": bool(cap.of.models) or "model" in cap.each,
        "tag": bool(cap.tags) or "tag" in cap.each,
    }
    needed = [name for name, wanted in columns.items() if wanted]
    exact = {FIELDS[group] for group in cap.each if group != "user"}
    if cap.subject[0] in ("key", "team"):
        exact.add("key_id" if cap.subject[0] == "key" else "team")
    where = [f"{name} = :{name}" for name in sorted(exact)]
    if cap.unit == "concurrent":
        where.append("open = 1")
    else:
        where.append("time_us >= :since AND time_us < :until")
    shown = ", ".join(name if name in needed else "''" for name in columns)
    sql = (
        f"SELECT {shown}, open, count(*), "  # noqa: S608  names of columns, all ours
        "sum(input_tokens + output_tokens), sum(cost_nusd) FROM ledger "
        f"WHERE {' AND '.join(where)} GROUP BY {', '.join([*needed, 'open'])}"
    )
    values = {
        **{name: getattr(facts, name) for name in exact},
        "since": min(start_s * _SECOND_US, _INT64),
        "until": min(end_s * _SECOND_US, _INT64),
    }
    for row in connection.execute(sql, values):
        yield Facts(*row[:9]), *row[9:]


def _same_group(bound: Bound, row: Facts, facts: Facts) -> bool:
    return all(bound.value(group, row) == bound.value(group, facts) for group in bound.cap.each)
