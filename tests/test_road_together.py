"""Requests that arrive together are admitted together: in one transaction, before anything of them
is sent; what stands against one, or comes between, is its own affair."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from llamakey_addon.gate import Gate
from llamakey_addon.keys import mint
from llamakey_addon.store.ledger import Row
from tests.front import opened
from tests.roadside import Bench, make_bench

PRICES = [{"provider": "openai", "model": "gpt-5*", "input_mtok": 1, "output_mtok": 2}]
CHAT = b'{"model": "gpt-5-mini", "max_tokens": 20, "messages": [{"role": "user", "content": "hi"}]}'


class Turn:
    """A turn of the loop, whose end the test chooses."""

    def __init__(self, gate: Gate) -> None:
        self.asked = 0
        """How often somebody asked for its end."""
        self._book = gate.book
        gate.book.soon = self._soon

    def _soon(self) -> None:
        self.asked += 1

    def end(self) -> None:
        self._book.admit()


type Make = Callable[..., Bench]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Bench] = []

    def make(**config: Any) -> Bench:
        made.append(make_bench(tmp_path, **{"prices": PRICES, **config}))
        return made[-1]

    yield make
    for bench in made:
        bench.store.close()


def ask(bench: Bench) -> None:
    headers = ("Content-Type: application/json",)
    bench.client(bench.head("POST /openai/v1/chat/completions", *headers, body=CHAT))


def several(bench: Bench, count: int) -> list[Bench]:
    """So many connections of clients."""
    return [bench, *(bench.another_road() for _ in range(count - 1))]


def rows(bench: Bench) -> list[Row]:
    return list(bench.store.ledger.rows(0, 1e12))


def reserved(bench: Bench) -> int:
    with closing(connect(bench)) as connection:
        [(found,)] = connection.execute("SELECT total(reserved) FROM counter")
    return int(found)


def connect(bench: Bench) -> sqlite3.Connection:
    return sqlite3.connect(bench.gate.settings.data_folder / "llamakey.db", autocommit=True)


def status(bench: Bench) -> int:
    return bench.got("POST")[-1].status


def test_one_transaction_for_all_of_a_turn(make: Make) -> None:
    caps = {"limits": [{"tokens": 10**6, "per": "day"}], "budgets": [{"spend": 9, "per": "day"}]}
    bench = make(users={"alice": caps})
    ask(bench)  # the caps are made known, and a counter of each is there
    bench.open()
    turn, everybody = Turn(bench.gate), several(bench, 17)[1:]
    before = bench.store.ledger.written
    for each in everybody:
        ask(each)
        assert each.upstream_untouched
    assert len(rows(bench)) == 1
    assert (turn.asked, bench.store.ledger.written) == (1, before)
    turn.end()
    assert bench.store.ledger.written == before + 1
    assert all(each.rim.wishes and not each.rim.out for each in everybody)
    assert [row.open for row in rows(bench)] == [True] * 17
    # closed together, too
    bench.store.ledger.waiting = lambda: None
    for each in everybody:
        each.open()
        each.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    assert bench.store.ledger.written == before + 1
    bench.gate.book.flush()
    assert bench.store.ledger.written == before + 2
    assert [row.open for row in rows(bench)] == [True, *[False] * 16]


def test_very_many_are_admitted_by_the_handful(make: Make) -> None:
    bench = make(users={"alice": {"limits": [{"requests": 140, "per": "day"}]}})
    ask(bench)
    turn, everybody = Turn(bench.gate), several(bench, 151)[1:]
    before = bench.store.ledger.written
    for each in everybody:
        ask(each)
    # the first do not wait for the last
    assert [len(each.rim.wishes) for each in everybody] == [1] * 128 + [0] * 22
    turn.end()
    assert bench.store.ledger.written == before + 3
    assert [len(each.rim.wishes) for each in everybody] == [1] * 139 + [0] * 11
    assert len(rows(bench)) == 140


def test_the_row_is_committed_before_anything_is_wished_for(make: Make) -> None:
    bench = make()
    turn = Turn(bench.gate)
    found: list[int] = []

    def look(*_: object, **__: object) -> None:
        with closing(connect(bench)) as other:
            found.extend(*other.execute("SELECT count(*) FROM ledger WHERE open = 1"))

    for each in several(bench, 3):
        each.rim.open_upstream = look  # type: ignore[method-assign]
        ask(each)
    assert found == []
    turn.end()
    assert found == [3, 3, 3]


def test_as_many_as_a_limit_says(make: Make) -> None:
    bench = make(users={"alice": {"limits": [{"requests": 3, "per": "day"}, {"concurrent": 9}]}})
    turn, everybody = Turn(bench.gate), several(bench, 5)
    for each in everybody:
        ask(each)
    turn.end()
    assert [len(each.rim.wishes) for each in everybody] == [1, 1, 1, 0, 0]
    assert [status(each) for each in everybody[3:]] == [429, 429]
    # what is refused has left nothing behind
    assert len(rows(bench)) == 3 and reserved(bench) == 3
    # and has undone nothing
    for each in everybody[:3]:
        each.open()
        each.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        assert status(each) == 200
    assert reserved(bench) == 0
    # the next one on a connection that was refused is judged anew
    ask(everybody[4])
    turn.end()
    assert [got.status for got in everybody[4].got("POST", "POST")] == [429, 429]


def test_a_commit_that_fails_denies_exactly_its_own(make: Make) -> None:
    bench = make(users={"alice": {"limits": [{"concurrent": 9}]}})
    turn, everybody = Turn(bench.gate), several(bench, 4)
    ask(everybody[0])
    turn.end()
    with closing(connect(bench)) as blocker:
        blocker.execute("BEGIN IMMEDIATE")
        for each in everybody[1:3]:
            ask(each)
        turn.end()
        for each in everybody[1:3]:
            assert status(each) == 503 and not each.rim.wishes
            assert b"can't write its ledger" in each.got("POST")[0].body
        blocker.execute("ROLLBACK")
    ask(everybody[3])
    turn.end()
    assert everybody[0].rim.wishes and everybody[3].rim.wishes
    assert len(rows(bench)) == 2 and reserved(bench) == 2
    assert len([note for note in bench.log.notes if "No new request is sent" in note]) == 1


def test_a_commit_that_raises_what_it_should_not(make: Make, monkeypatch: Any) -> None:
    bench = make()
    turn, everybody = Turn(bench.gate), several(bench, 2)

    def broken(*_: object) -> None:
        raise SystemExit

    monkeypatch.setattr(type(bench.store.ledger), "_insert", broken)
    for each in everybody:
        ask(each)
    turn.end()
    assert [status(each) for each in everybody] == [500, 500]
    monkeypatch.undo()
    assert rows(bench) == []
    ask(bench)
    turn.end()
    assert bench.rim.wishes


def test_what_comes_between_gives_its_reservation_back(make: Make, monkeypatch: Any) -> None:
    bench = make(users={"alice": {"limits": [{"concurrent": 9}]}})
    turn, (left, failed, revoked, stays) = Turn(bench.gate), several(bench, 4)
    ask(left)
    left.road.client_closed()
    with monkeypatch.context() as patch:
        patch.setattr("llamakey_addon.gate.Grant", None)
        ask(failed)
    ask(revoked)
    bench.store.revoke("laptop")
    revoked.road.recheck()
    monkeypatch.setattr("llamakey_addon.gate.Gate.still", lambda *_: None)
    bench.store.add_key("other", "alice", minted := mint())
    stays.key = minted.text
    ask(stays)
    turn.end()
    assert [len(each.rim.wishes) for each in (left, failed, revoked, stays)] == [0, 0, 0, 1]
    assert (status(failed), status(revoked)) == (500, 401)
    assert len(rows(bench)) == 1 and reserved(bench) == 1
    assert {receipt.end for receipt in bench.receipts} == {"client left", "denied"}


def test_one_that_cannot_go_on_stops_no_other(make: Make) -> None:
    bench = make()
    turn, everybody = Turn(bench.gate), several(bench, 3)

    def broken(*_: object, **__: object) -> None:
        raise SystemExit

    everybody[1].rim.open_upstream = broken  # type: ignore[method-assign]
    for each in everybody:
        ask(each)
    turn.end()
    assert everybody[0].rim.wishes and everybody[2].rim.wishes
    assert status(everybody[1]) == 500
    assert [row.open for row in rows(bench)] == [True, False, True]


def test_those_who_asked_before_a_reload_are_admitted_by_its_caps(make: Make) -> None:
    bench = make(users={"alice": {"limits": [{"concurrent": 1}]}})
    turn, (first, second, third) = Turn(bench.gate), several(bench, 3)
    ask(first)
    ask(second)
    bench.gate.reload(
        make(users={"alice": {"limits": [{"concurrent": 2}]}}, name="l2").gate.settings
    )
    assert first.rim.wishes and status(second) == 429
    ask(third)
    turn.end()
    assert third.rim.wishes and reserved(bench) == 2


def test_nobody_waits_longer_than_for_the_ledger(make: Make) -> None:
    bench = make()
    Turn(bench.gate)
    ask(bench)
    bench.wait(60)
    assert status(bench) == 503 and bench.upstream_untouched
    assert rows(bench) == []


@pytest.mark.parametrize("when", ["before the commit", "after it"])
def test_killed(make: Make, tmp_path: Path, when: str) -> None:
    """Whatever is not committed has reached nobody; what is, is settled as it was reserved."""
    make().store.close()
    child = os.fork()
    if not child:
        try:
            bench = make(name="of-the-child")
            turn, kill = Turn(bench.gate), lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
            for each in several(bench, 2):
                each.rim.open_upstream = kill  # type: ignore[method-assign]
                ask(each)
            if when == "before the commit":
                kill()
            turn.end()
        finally:
            os._exit(1)
    _, how = os.waitpid(child, 0)
    assert os.WTERMSIG(how) == signal.SIGKILL
    bench = make(name="after")
    assert bench.store.ledger.recover() == (0 if when == "before the commit" else 2)
    assert {row.end for row in rows(bench)} <= {"the proxy was killed"}


async def test_whoever_sends_in_one_turn_of_the_loop_shares_a_transaction(tmp_path: Path) -> None:
    """By real sockets. The provider answers when it has all requests."""
    written: list[int] = []
    all_there = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b'"hi"}]}')
        written.append(front.house.store.ledger.written)
        if len(written) == count:
            all_there.set()
        await all_there.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        writer.close()

    count = 64
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=count)
    upstream = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    providers = {"openai": {"upstream": upstream}}
    caps = {"limits": [{"requests": count + 1, "per": "day"}]}
    async with opened(tmp_path, providers=providers, users={"alice": caps}) as front:
        clients = [await front.connect() for _ in range(count)]
        lines = [
            "POST /openai/v1/chat/completions HTTP/1.1",
            "Host: localhost",
            f"Authorization: Bearer {front.key}",
            f"Content-Length: {len(CHAT)}",
            *("", ""),
        ]
        request = "\r\n".join(lines).encode() + CHAT
        before = front.house.store.ledger.written
        for _, writer in clients:
            writer.write(request)
        answers = [await reader.readuntil(b"{}") for reader, _ in clients]
        assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
        for _, writer in clients:
            writer.close()
        server.close()
    # the caps are made known; then all are admitted
    assert written[-1] - before == 2
