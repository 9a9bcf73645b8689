"""Limits and budgets on live proxies: many at once, several processes, killed ones, full disks."""

from __future__ import annotations

import collections
import json
import os
import random
import resource
import signal
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from llamakey_addon.store import open_store
from tests.attacks.conftest import open_door
from tests.conftest import Start
from tests.crowd import Told, crowd, post
from tests.fakes import World
from tests.fakes.families import openai
from tests.fakes.steps import Gate
from tests.harness import Proxy, _ticks
from tests.rows import query, query_home, wait_for_settled

PRICES = [{"provider": "openai", "model": "*", "input_mtok": 1, "output_mtok": 2}]
CHAT = b'{"model": "gpt-5-mini", "max_tokens": 20, "messages": [{"role": "user", "content": "hi"}]}'
STREAM = CHAT.replace(b'"max_tokens"', b'"stream": true, "max_tokens"')
COST_NUSD = openai.USAGE["prompt_tokens"] * 1000 + openai.USAGE["completion_tokens"] * 2000


def config(**alice: Any) -> dict[str, Any]:
    return {"prices": PRICES, "users": {"alice": alice}}


def chat(proxy: Proxy, body: bytes = CHAT, *headers: str, key: str = "") -> bytes:
    return post("/openai/v1/chat/completions", key or proxy.local_key, body, *headers)


def statuses(told: list[Told]) -> dict[int, int]:
    return dict(collections.Counter(each.status for each in told))


def assert_counters_are_sums(proxy: Proxy) -> None:
    """What the counters say is what the rows say: they are summed up anew and compared."""
    found = {
        (scope, start_s): (settled, reserved)
        for scope, start_s, settled, reserved in query(
            proxy, "SELECT scope, start_s, settled, reserved FROM counter WHERE stale = 0"
        )
    }
    assert found
    rows = query(proxy, "SELECT time_us, input_tokens + output_tokens, cost_nusd FROM ledger")
    for (scope, start_s), (settled, reserved) in found.items():
        unit, window, *_ = json.loads(scope.partition("][")[0].removesuffix("]") + "]")
        length_s = {"hour": 3600, "day": 86400, "month": 32 * 86400}.get(window, 2**40)
        within = [row for row in rows if start_s <= row[0] / 1e6 < start_s + length_s]
        figures = {
            "requests": len(within),
            "tokens": sum(row[1] for row in within),
            "nusd": sum(row[2] for row in within),
            "concurrent": 0,
        }
        assert (settled, reserved) == (figures[unit], 0), scope


# --- many at once ---------------------------------------------------------------------------------


def test_of_a_thousand_at_once_a_limit_of_a_hundred_admits_a_hundred(
    proxy: Start, world: World
) -> None:
    """By two workers, on one port."""
    running = proxy(config={**config(limits=[{"requests": 100, "per": "day"}]), "workers": 2})
    running.wait_for_output("with 2 workers")
    before = world.mark()
    told = crowd([running.url], chat(running), 1000)
    assert statuses(told) == {200: 100, 429: 900}
    assert len(world.requests("openai", before)) == 100
    wait_for_settled(running)
    served = {each.id for each in told if each.status == 200}
    assert {id for (id,) in query(running, "SELECT id FROM ledger")} == served
    assert query(running, "SELECT count(DISTINCT process) FROM ledger") == [(2,)]
    assert_counters_are_sums(running)


def test_two_processes_on_one_store_admit_as_many_as_one(proxy: Start, world: World) -> None:
    caps = config(
        limits=[{"requests": 60, "per": "day"}, {"concurrent": 200}],
        budgets=[{"spend": 10, "per": "month"}],
    )
    first = proxy(config=caps)
    second = proxy(config=caps, env={"LLAMAKEY_HOME": str(first.home)})
    before = world.mark()
    told = crowd([first.url, second.url], chat(first), 30)  # of which both have a part
    told += crowd([first.url, second.url], chat(first), 270)
    assert statuses(told) == {200: 60, 429: 240}
    assert len(world.requests("openai", before)) == 60
    wait_for_settled(first)
    assert query(first, "SELECT count(DISTINCT process), sum(cost_nusd) FROM ledger") == [
        (2, 60 * COST_NUSD)
    ]
    assert_counters_are_sums(first)


def test_of_fifty_at_once_a_budget_for_one_lets_one_pass(proxy: Start, world: World) -> None:
    # 20 tokens out are estimated at 40,000, and what goes in at some 20,000
    running = proxy(config=config(budgets=[{"spend": 0.0001, "per": "total"}]))
    gate = world.gate("one-budget")
    before = world.mark()
    # the one that passes is answered when all others have been
    request = chat(running, STREAM, "X-Fake-Gate: one-budget")
    told = crowd([running.url], request, 50, after=49, then=gate.open)
    assert statuses(told) == {200: 1, 429: 49}
    assert len(world.requests("openai", before)) == 1
    wait_for_settled(running)
    assert_counters_are_sums(running)


@pytest.mark.parametrize("cut", [True, False])
def test_what_two_hundred_at_once_can_spend_beyond_a_budget(
    proxy: Start, world: World, cut: bool
) -> None:
    """The bound that `admit.py` states: what the answers that run cost more than was reserved for
    them; of a stream that is ended, as far as it was read by then. Here all of them run at once,
    and each puts out four tokens where one was reserved."""
    price, budget, room = 2000, 200_000, 100
    caps = {
        "prices": [{"provider": "openai", "model": "*", "output_mtok": 2}],
        "users": {"alice": {"budgets": [{"spend": budget / 1e9, "per": "total"}]}},
        "metering": {"cut_streams": cut},
    }
    running = proxy(config=caps)
    gate = world.gate(f"overshoot-{cut}")
    one = STREAM.replace(b'"max_tokens": 20', b'"max_tokens": 1')
    request = chat(running, one, f"X-Fake-Gate: {gate.name}")

    def let_go() -> None:
        """Streams that are ended get their role, a word that there is room for, and one that there
        is none for. The provider sends no more, so only the budget can end them."""
        if not cut:
            gate.open()
            return
        for _ in range(3):
            gate.wait_until_waiting(room)
            gate.step()

    letting = threading.Thread(target=let_go)
    told = crowd([running.url], request, 200, after=200 - room, then=letting.start)
    letting.join()
    gate.open()
    assert statuses(told) == {200: room, 429: 200 - room}
    wait_for_settled(running)
    [(spent,)] = query(running, "SELECT sum(cost_nusd) FROM ledger")
    served = [each for each in told if each.status == 200]
    if cut:
        assert spent == budget + room * price
        assert all(b"has used up the budget" in each.body for each in served)
        assert not any(b"[DONE]" in each.body for each in served)
    else:
        assert spent == budget + room * (len(openai.WORDS) - 1) * price
        assert all(b"[DONE]" in each.body for each in served)
    assert statuses(crowd([running.url], request, 3)) == {403: 3}
    assert_counters_are_sums(running)


# --- killed ---------------------------------------------------------------------------------------


def test_a_kill_loses_no_request_and_leaves_nothing_reserved(
    proxy: Start, world: World, tmp_path: Path
) -> None:
    caps = config(
        limits=[{"requests": 10**6, "per": "hour"}, {"tokens": 10**9, "per": "day"}],
        budgets=[{"spend": 100, "per": "month"}],
    )
    chance = random.Random(7)
    answered: set[str] = set()
    running = proxy(config=caps)
    key, home = running.local_key, running.home
    for _ in range(3):
        told = crowd(
            [running.url],
            chat(running, key=key),
            120,
            after=chance.randrange(1, 100),
            then=running.process.kill,
        )
        running.process.wait()
        answered |= {each.id for each in told if each.status == 200}
        running = proxy(config=caps, env={"LLAMAKEY_HOME": str(home)})
        # its start has closed what the dead one left
        assert query_home(home, "SELECT count(*) FROM ledger WHERE open = 1") == [(0,)]
    assert statuses(crowd([running.url], chat(running, key=key), 1)) == {200: 1}
    for _ in _ticks(10):
        if query_home(home, "SELECT count(*) FROM ledger WHERE open = 1") == [(0,)]:
            break
    ids = [id for (id,) in query_home(home, "SELECT id FROM ledger")]
    assert answered and answered <= set(ids)
    assert len(ids) == len(set(ids))
    killed = query_home(home, "SELECT quality, cost_nusd > 0 FROM ledger WHERE end LIKE '%killed'")
    assert set(killed) <= {("estimated", 1)}
    assert query_home(home, "SELECT sum(reserved) FROM counter") == [(0,)]
    sums = query_home(
        home, "SELECT count(*), sum(input_tokens + output_tokens), sum(cost_nusd) FROM ledger"
    )
    found = query_home(home, "SELECT scope, sum(settled) FROM counter GROUP BY scope")
    counters = {json.loads(scope)[0]: settled for scope, settled in found}
    assert [(counters["requests"], counters["tokens"], counters["nusd"])] == sums


def test_a_process_that_is_killed_is_settled_by_those_that_live(proxy: Start, world: World) -> None:
    caps = config(limits=[{"concurrent": 1}])
    first = proxy(config=caps)
    second = proxy(config=caps, env={"LLAMAKEY_HOME": str(first.home)})
    gate = world.gate("dying")
    other = threading.Thread(
        target=crowd, args=([second.url], chat(first, STREAM, "X-Fake-Gate: dying"), 1)
    )
    other.start()
    gate.wait_until_waiting()
    assert statuses(crowd([first.url], chat(first), 1)) == {429: 1}
    os.kill(second.process.pid, signal.SIGKILL)
    other.join()
    gate.open()
    for _ in _ticks(20):
        if statuses(crowd([first.url], chat(first), 1)) == {200: 1}:
            break
    else:
        raise AssertionError(query(first, "SELECT * FROM ledger"))
    assert ("the proxy was killed", "estimated") in query(first, "SELECT end, quality FROM ledger")


# --- a store that cannot be written ---------------------------------------------------------------


@dataclass(slots=True)
class Held:
    proxy: Proxy
    gate: Gate
    """Where its answer waits."""
    told: list[Told]
    """Holds it when it has ended."""

    def let_end(self) -> None:
        """The answer ends well."""
        self.gate.open()
        for _ in _ticks(10):
            if self.told:
                break
        assert [(each.status, each.whole) for each in self.told] == [(200, True)]


@pytest.fixture
def held(proxy: Start, world: World, request: pytest.FixtureRequest) -> Iterator[Held]:
    """A proxy with an answer that runs."""
    running = proxy(config=config(limits=[{"tokens": 10**9, "per": "day"}]))
    gate = world.gate(request.node.name)
    told: list[Told] = []
    client = threading.Thread(
        target=lambda: told.extend(
            crowd([running.url], chat(running, STREAM, f"X-Fake-Gate: {gate.name}"), 1)
        )
    )
    client.start()
    gate.wait_until_waiting()
    yield Held(running, gate, told)
    gate.open()
    client.join()


def test_a_locked_store(held: Held, world: World) -> None:
    running = held.proxy
    with closing(sqlite3.connect(running.home / "llamakey.db", autocommit=True)) as blocker:
        blocker.execute("BEGIN IMMEDIATE")
        refused(running, world)
        held.let_end()
        blocker.execute("ROLLBACK")
    well_again(running, world)


def test_a_full_disk(held: Held, world: World) -> None:
    """The process may write no file larger than the store's log is now: what a full disk says to
    SQLite is then said by the system."""
    running = held.proxy
    wal = running.home / "llamakey.db-wal"
    pid = running.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (wal.stat().st_size, before[1]))
    try:
        refused(running, world)
        held.let_end()
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
    well_again(running, world)


def refused(running: Proxy, world: World) -> None:
    """Nothing new is sent, with a clear word."""
    before = world.mark()
    told = crowd([running.url], chat(running), 5)
    assert statuses(told) == {503: 5}
    for each in told:
        message = json.loads(each.body)["error"]["message"]
        assert "can't write its ledger at the moment, so it sends nothing" in message
    assert world.requests("openai", before) == []
    running.wait_for_output("No new request is sent until then")


def well_again(running: Proxy, world: World) -> None:
    """All is served and booked, what ran meanwhile included."""
    for _ in _ticks(10):
        if statuses(crowd([running.url], chat(running), 1)) == {200: 1}:
            break
    wait_for_settled(running)
    assert query(running, "PRAGMA integrity_check") == [("ok",)]
    ended = query(running, "SELECT end, quality, output_tokens FROM ledger ORDER BY time_us")
    assert ended[0] == ("complete", "exact", openai.USAGE["completion_tokens"])
    assert_counters_are_sums(running)
    with open_store(running.home) as store:
        assert store.keys()
    open_door(running, world).assert_still_serves()
