"""What the ledger keeps, and what its counters let pass."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import contextmanager
from zoneinfo import ZoneInfo

import pytest

from llamakey_addon.caps import Bound
from llamakey_addon.journey import Rule
from llamakey_addon.store import StoreError, open_store, sqlite_ledger
from llamakey_addon.store.ledger import Alert, CapReached, Size
from llamakey_addon.store.windows import Windows
from tests.store.ledgers import FACTS, admit, cap, claims, closing, opening

NOON_S = 1_764_331_200.0
"""2025-11-28 12:00 UTC, the start of a bucket of every length up to an hour."""


@pytest.fixture
def store(tmp_path):
    with open_store(tmp_path / "data") as opened:
        yield opened


@pytest.fixture
def ledger(store):
    return store.ledger


def only_row(ledger):
    [row] = ledger.rows(0, 1e12)
    return row


def sql(tmp_path, query):
    connection = sqlite3.connect(tmp_path / "data" / "llamakey.db")
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


@contextmanager
def by_hand(tmp_path):
    """The file, for a change by hand."""
    connection = sqlite3.connect(tmp_path / "data" / "llamakey.db", autocommit=True)
    try:
        yield connection
    finally:
        connection.close()


def refused(ledger, caps, *args, **more) -> CapReached:
    with pytest.raises(CapReached) as caught:
        admit(ledger, caps, *args, **more)
    return caught.value


# --- rows -----------------------------------------------------------------------------------------


def test_a_row_is_there_before_the_answer_and_true_after_it(ledger):
    hold = admit(ledger, [], NOON_S, input_tokens=10, output_tokens=50, cost_nusd=777, tag="s1")
    row = only_row(ledger)
    assert (row.id, row.time_s, row.open) == (hold.opening.id, NOON_S, True)
    assert (row.input_tokens, row.output_tokens, row.cost_nusd) == (10, 50, 777)
    assert (row.facts.user, row.facts.tag, row.quality) == ("alice", "s1", "estimated")
    ledger.settle(
        hold,
        closing(
            counts={
                "input_tokens": 12,
                "output_tokens": 7,
                "cache_read_tokens": 5,
                "cache_write_tokens": 3,
                "audio_ms": 1200,
            },
            cost_nusd=432,
            served="gpt-5-mini-2025-08-07",
            priced="2025-11-20",
            first_byte_ms=81.5,
            total_ms=900.25,
        ),
    )
    row = only_row(ledger)
    assert not row.open
    assert (row.input_tokens, row.output_tokens) == (12, 7)
    assert (row.cache_read_tokens, row.cache_write_tokens, row.other) == (5, 3, {"audio_ms": 1200})
    assert (row.cost_nusd, row.quality, row.status, row.end) == (432, "exact", 200, "complete")
    assert (row.served, row.priced) == ("gpt-5-mini-2025-08-07", "2025-11-20")
    assert (row.first_byte_ms, row.total_ms) == (81.5, 900.25)


def test_settled_twice_counts_once(ledger):
    spend = cap("nusd", 1000, "day")
    hold = admit(ledger, [spend], NOON_S, cost_nusd=10)
    ledger.settle(hold, closing(cost_nusd=30))
    ledger.settle(hold, closing(cost_nusd=30))
    ledger.settle_as_held(hold, "again")
    assert only_row(ledger).cost_nusd == 30
    [standing] = ledger.standing(FACTS, claims([spend], opening(NOON_S)), NOON_S)
    assert (standing.settled, standing.reserved) == (30, 0)


def test_requests_of_one_microsecond_have_a_row_each(ledger):
    holds = [admit(ledger, [], NOON_S) for _ in range(5)]
    assert len({hold.row for hold in holds}) == 5
    assert [row.id for row in ledger.rows(0, 1e12)] == [hold.opening.id for hold in holds]


def test_a_row_takes_whatever_stands_in_an_answer(ledger):
    hold = admit(ledger, [], model="\ud800")
    ledger.settle(hold, closing(10**30, -5, 10**30, served="\udfff", end="\ud800"))
    row = only_row(ledger)
    assert (row.input_tokens, row.output_tokens, row.served) == (2**62, 0, "?")


def test_a_refused_request_leaves_no_row(ledger):
    caps = [cap("requests", 1, "hour"), cap("concurrent", 9), cap("tokens", 9, "hour")]
    admit(ledger, caps, NOON_S, output_tokens=1)
    refused(ledger, caps, NOON_S, output_tokens=1)
    only_row(ledger)
    standing = ledger.standing(FACTS, claims(caps, opening(NOON_S)), NOON_S)
    assert [each.used for each in standing] == [1, 1, 1]  # of all, or of none


# --- requests, tokens, what runs at once ----------------------------------------------------------


def test_a_limit_admits_as_many_as_it_says(ledger):
    limit = cap("requests", 3, "minute", setting="users.alice.limits[0]")
    for _ in range(3):
        admit(ledger, [limit], NOON_S)
    reached = refused(ledger, [limit], NOON_S)
    assert not reached.spent
    assert reached.standing.claim.cap.setting == "users.alice.limits[0]"
    assert reached.standing.left == 0


def test_a_window_slides(ledger):
    limit = cap("requests", 60, "minute")
    for _ in range(60):
        admit(ledger, [limit], NOON_S + 30)
    wait_s = refused(ledger, [limit], NOON_S + 59).standing.free_in_s
    assert wait_s == pytest.approx(2, abs=0.01)  # a 60th of the next bucket
    refused(ledger, [limit], NOON_S + 60)
    admit(ledger, [limit], NOON_S + 61)
    refused(ledger, [limit], NOON_S + 61)
    for _ in range(29):
        admit(ledger, [limit], NOON_S + 90)
    refused(ledger, [limit], NOON_S + 90)
    for _ in range(60):
        admit(ledger, [limit], NOON_S + 300)


def test_what_is_waited_for_is_there_then(ledger):
    limit = cap("tokens", 1000, "hour")
    for second in (5, 1800, 3000):
        ledger.settle(
            admit(ledger, [limit], NOON_S + second, output_tokens=1), closing(output_tokens=330)
        )
    now_s = NOON_S + 3100
    for amount in (10, 11, 200, 1000):
        try:
            admit(ledger, [limit], now_s, output_tokens=amount)
        except CapReached as reached:
            wait_s = reached.standing.free_in_s
            refused(ledger, [limit], now_s + wait_s - 1, output_tokens=amount)
            ledger.settle(
                admit(ledger, [limit], now_s + wait_s + 0.01, output_tokens=amount), closing()
            )


def test_tokens_are_reserved_and_settle_to_the_truth(ledger):
    limit = cap("tokens", 100, "hour")
    first = admit(ledger, [limit], NOON_S, input_tokens=20, output_tokens=40)
    refused(ledger, [limit], NOON_S, output_tokens=41)
    ledger.settle(first, closing(25, 15))
    admit(ledger, [limit], NOON_S, output_tokens=60)
    refused(ledger, [limit], NOON_S, output_tokens=1)


def test_a_request_larger_than_its_limit_passes_alone(ledger):
    limit = cap("tokens", 100, "hour")
    hold = admit(ledger, [limit], NOON_S, output_tokens=5000)
    assert refused(ledger, [limit], NOON_S, output_tokens=1).standing.free_in_s > 3600
    ledger.settle(hold, closing(output_tokens=40))
    admit(ledger, [limit], NOON_S, output_tokens=60)


def test_what_runs_at_once(ledger):
    limit = cap("concurrent", 2)
    first, _ = admit(ledger, [limit]), admit(ledger, [limit])
    assert refused(ledger, [limit]).standing.free_in_s == 1
    ledger.settle(first, closing())
    admit(ledger, [limit])
    refused(ledger, [limit])


# --- money ----------------------------------------------------------------------------------------


def test_a_budget_is_short_for_a_moment_or_spent(ledger):
    budget = cap("nusd", 100, "day", subject=("user", "alice"))
    hold = admit(ledger, [budget], NOON_S, cost_nusd=80)
    assert not refused(ledger, [budget], NOON_S, cost_nusd=30).spent  # only reserved
    ledger.settle(hold, closing(cost_nusd=75))
    reached = refused(ledger, [budget], NOON_S, cost_nusd=30)
    assert reached.spent
    assert reached.standing.claim.span.end_s == NOON_S + 12 * 3600
    admit(ledger, [budget], NOON_S, cost_nusd=25)
    admit(ledger, [budget], NOON_S + 12 * 3600, cost_nusd=100)  # the next day


def test_the_longer_of_two_reasons_is_told(ledger):
    day = cap("nusd", 100, "day", setting="day")
    rate = cap("requests", 1, "minute", setting="rate")
    hour = cap("requests", 1, "hour", setting="hour")
    ledger.settle(admit(ledger, [rate, hour, day], NOON_S, cost_nusd=1), closing(cost_nusd=100))
    for caps, setting in (([rate, day], "day"), ([day, rate], "day"), ([hour, rate], "hour")):
        assert str(refused(ledger, caps, NOON_S, cost_nusd=1)) == setting


def test_a_soft_budget_lets_pass_and_tells_once_each(ledger):
    told: list[Alert] = []
    ledger.warn = told.append
    budget = cap("nusd", 100, "day", hard=False, warn_at=(50, 80, 100))
    for _ in range(30):
        ledger.settle(admit(ledger, [budget], NOON_S, cost_nusd=1), closing(cost_nusd=9))
    assert [(alert.percent, alert.settled) for alert in told] == [(50, 54), (80, 81), (100, 108)]
    ledger.settle(admit(ledger, [budget], NOON_S + 86400, cost_nusd=1), closing(cost_nusd=99))
    assert [(alert.percent, alert.settled) for alert in told[3:]] == [(80, 99)]


def test_thresholds_are_told_once_by_all_processes(ledger, tmp_path):
    told: list[Alert] = []
    budget = cap("nusd", 100, "day", warn_at=(50,))
    with open_store(tmp_path / "data") as other:
        for each in (ledger, other.ledger):
            each.warn = told.append
            each.settle(admit(each, [budget], NOON_S, cost_nusd=1), closing(cost_nusd=30))
            each.settle(admit(each, [budget], NOON_S, cost_nusd=1), closing(cost_nusd=10))
    assert [alert.percent for alert in told] == [50]


def test_a_budget_of_nothing_lets_what_is_free_pass(ledger):
    budget = cap("nusd", 0, "total")
    assert refused(ledger, [budget], cost_nusd=1).spent
    admit(ledger, [])


def test_an_answer_takes_more_until_a_budget_is_spent(ledger):
    budget, limit = cap("nusd", 100, "day"), cap("tokens", 10, "hour")
    hold = admit(ledger, [budget, limit], NOON_S, output_tokens=5, cost_nusd=10)
    ledger.extend(hold, Size(40, 80))
    [spent, tokens] = ledger.standing(FACTS, claims([budget, limit], opening(NOON_S)), NOON_S)
    assert (spent.reserved, tokens.reserved) == (80, 40)
    assert (only_row(ledger).output_tokens, only_row(ledger).cost_nusd) == (40, 80)
    ledger.extend(hold, Size(20, 50))  # it has that
    with pytest.raises(CapReached):
        ledger.extend(hold, Size(60, 101))
    assert hold.cost_nusd == 80
    ledger.settle(hold, closing(output_tokens=52, cost_nusd=104))
    [spent, tokens] = ledger.standing(FACTS, claims([budget, limit], opening(NOON_S)), NOON_S)
    assert (spent.settled, spent.reserved, tokens.settled, tokens.reserved) == (104, 0, 52, 0)


def test_more_is_taken_where_plenty_is_left(ledger):
    budget, limit = cap("nusd", 1000, "day"), cap("tokens", 500, "hour")
    hold = admit(ledger, [budget, limit], NOON_S, output_tokens=5, cost_nusd=10)
    with pytest.raises(CapReached):
        ledger.extend(hold, Size(6, 110, plenty=10))
    with pytest.raises(CapReached):  # of tokens, too, where plenty is asked for
        ledger.extend(hold, Size(55, 20, plenty=10))
    ledger.extend(hold, Size(54, 108, plenty=10))
    assert (hold.output_tokens, hold.cost_nusd) == (54, 108)
    ledger.extend(hold, Size(60, 900, plenty=10), Size(60, 200), Size(55, 110))
    assert (hold.output_tokens, hold.cost_nusd) == (60, 200)


# --- counters are sums of rows --------------------------------------------------------------------


def test_a_new_cap_begins_with_the_truth(ledger):
    for user, model, cost in (("alice", "a", 1), ("Alice", "b", 2), ("bob", "a", 4)):
        hold = admit(ledger, [], NOON_S, user=user, model=model, cost_nusd=9)
        ledger.settle(hold, closing(10, 1, cost_nusd=cost))
    admit(ledger, [], NOON_S, cost_nusd=64, output_tokens=5)  # open
    caps = [
        cap("nusd", 1, "day"),
        cap("nusd", 1, "day", subject=("user", "alice")),
        cap("nusd", 1, "total", of=Rule(models=("a",))),
        cap("nusd", 1, "week", each=("user",)),
        cap("nusd", 1, "month", subject=("team", "sales")),
        cap("requests", 1, "hour"),
        cap("requests", 1, "hour", of=Rule(paths=("chat",), methods=("POST",))),
        cap("requests", 1, "hour", of=Rule(paths=("/v1/embeddings",))),
        cap("tokens", 1, "minute", subject=("user", "bob")),
        cap("concurrent", 1, subject=("key", "abcdefghij")),
        cap("concurrent", 1, tags=("x",)),
    ]
    found = ledger.standing(FACTS, claims(caps, opening(NOON_S)), NOON_S)
    assert [(each.settled, each.reserved) for each in found] == [
        (7, 64),
        (3, 64),
        (5, 0),
        (3, 64),
        (0, 0),
        (4, 0),
        (4, 0),
        (0, 0),
        (11, 0),
        (0, 1),
        (0, 0),
    ]
    for each, standing in zip(caps, found, strict=True):  # and the same when it is asked
        spent = standing.used + 1 > 1
        if spent:
            assert (
                refused(ledger, [each], NOON_S, output_tokens=1, cost_nusd=1).standing.used
                == standing.used
            )


def test_what_a_cap_missed_while_it_was_out_is_counted(ledger):
    budget = cap("nusd", 100, "day")
    ledger.renew([Bound(budget).name], "UTC")
    ledger.settle(admit(ledger, [budget], NOON_S, cost_nusd=1), closing(cost_nusd=40))
    ledger.renew([], "UTC")
    ledger.settle(admit(ledger, [], NOON_S, cost_nusd=1), closing(cost_nusd=50))
    ledger.renew([Bound(budget).name], "UTC")
    assert refused(ledger, [budget], NOON_S, cost_nusd=11).standing.settled == 90


def test_a_change_of_caps_while_a_request_runs(ledger):
    old, new = cap("nusd", 100, "day"), cap("nusd", 100, "week")
    ledger.renew([Bound(old).name], "UTC")
    hold = admit(ledger, [old], NOON_S, cost_nusd=10)
    ledger.renew([Bound(new).name], "UTC")
    ledger.settle(admit(ledger, [new], NOON_S, cost_nusd=1), closing(cost_nusd=1))
    assert hold.epoch != ledger.epoch
    ledger.settle(hold, closing(cost_nusd=30), claims([new], hold.opening))
    [standing] = ledger.standing(FACTS, claims([new], opening(NOON_S)), NOON_S)
    assert (standing.settled, standing.reserved) == (31, 0)


def test_caps_that_stay_keep_their_counters(tmp_path):
    stays, goes = cap("nusd", 100, "day"), cap("requests", 100, "hour")
    of_a_key = cap("tokens", 100, "day", subject=("key", "abcdefghij"))
    names = [Bound(stays).name, Bound(goes).name]
    for caps, zone, kept in (
        (names, "UTC", ["nusd", "requests", "tokens"]),
        (names, "UTC", ["nusd", "requests", "tokens"]),
        (names[:1], "UTC", ["nusd", "tokens"]),
        (names[:1], "Europe/Berlin", ["tokens"]),
    ):
        with open_store(tmp_path / "data") as store:  # a start
            ledger = store.ledger
            ledger.renew(caps, zone)
            scopes = sql(tmp_path, "SELECT DISTINCT scope FROM counter WHERE stale = 0")
            assert [Bound.of_scope(*scope)[0].cap.unit for scope in scopes] in ([], kept)
            admit(ledger, [stays, goes, of_a_key], NOON_S, cost_nusd=1, output_tokens=1)
            assert len(sql(tmp_path, "SELECT 1 FROM counter WHERE stale = 0")) >= 3


def test_rows_that_the_dead_left_are_settled_in_their_counters(tmp_path, ledger):
    caps = [
        cap("nusd", 10**6, "day", each=("user",)),
        cap("nusd", 10**6, "total", of=Rule(models=("gpt-*",))),
        cap("tokens", 10**6, "hour", subject=("team", "research")),
        cap("concurrent", 100, subject=("user", "alice")),
        cap("requests", 10**6, "day"),
    ]
    held = {"input_tokens": 3, "output_tokens": 4, "cost_nusd": 50}
    running = admit(ledger, caps, NOON_S, **held)
    with open_store(tmp_path / "data") as dying:
        for more in ({}, {"user": "bob"}, {"model": "o3"}):
            each = opening(NOON_S, **held, **more)
            fitting = [claim for claim in claims(caps, each) if claim.bound.is_of(each.facts)]
            dying.ledger.admit(each, [claim for claim in fitting if claim.bound.fits(each.facts)])
    assert ledger.recover() == 3
    standing = ledger.standing(FACTS, claims(caps, opening(NOON_S, **held)), NOON_S)
    found = [(each.settled, each.reserved) for each in standing]
    assert found == [(100, 50), (100, 50), (21, 7), (0, 1), (4, 0)]
    assert sql(tmp_path, "SELECT count(*) FROM counter WHERE stale = 1") == [(0,)]
    assert sql(tmp_path, "SELECT count(*) FROM ledger WHERE open = 1") == [(1,)]
    ledger.settle(running, closing(1, 1, 1))
    with by_hand(tmp_path) as connection:  # and they are what the rows say
        connection.execute("UPDATE counter SET stale = 1")
    again = ledger.standing(FACTS, claims(caps, opening(NOON_S, **held)), NOON_S)
    assert [(each.settled, each.reserved) for each in again] == [
        (101, 0),
        (101, 0),
        (23, 0),
        (0, 0),
        (4, 0),
    ]


def test_counters_that_nobody_asks_for_any_more_go(ledger, tmp_path):
    admit(ledger, [cap("requests", 5, "second"), cap("nusd", 5, "total")], 1000.0, cost_nusd=1)
    now_s = time.time()
    admit(ledger, [cap("requests", 5, "hour")], now_s)
    ledger.recover()
    left = sql(tmp_path, "SELECT count(*) FROM counter WHERE keep_s < 1000000")
    assert left == [(0,)]
    assert len(sql(tmp_path, "SELECT 1 FROM counter")) == 3  # two buckets, and the total


# --- groups ---------------------------------------------------------------------------------------


def test_those_who_ask_together_are_admitted_in_one_transaction(ledger, tmp_path):
    caps = [cap("requests", 3, "day"), cap("tokens", 100, "hour"), cap("concurrent", 9)]
    ledger.settle(admit(ledger, caps, NOON_S, output_tokens=1), closing(output_tokens=10))
    asked = [opening(NOON_S, output_tokens=tokens) for tokens in (20, 80, 30, 1, 1)]
    holds = [ledger.ask(each, claims(caps, each)) for each in asked]
    ledger.settle(holds[2], closing())  # its client has left
    before = ledger.written
    ledger.admit_all(holds)
    assert ledger.written == before + 1
    assert [hold.row > 0 for hold in holds] == [True, False, False, True, False]
    reached = [hold.reached and hold.reached.standing.claim.cap.unit for hold in holds]
    assert reached == [None, "tokens", None, None, "requests"]
    standing = ledger.standing(FACTS, claims(caps, opening(NOON_S)), NOON_S)
    assert [(each.settled, each.reserved) for each in standing] == [(3, 0), (10, 21), (0, 2)]
    assert [row.id for row in ledger.rows(0, 1e12)][1:] == [asked[0].id, asked[3].id]


def test_of_a_group_that_fails_nothing_is_written(ledger, tmp_path):
    caps = [cap("requests", 5, "hour"), cap("nusd", 100, "day")]
    admit(ledger, caps, NOON_S, cost_nusd=1)
    asked = [opening(NOON_S, cost_nusd=1, tag=tag) for tag in ("good", "bad", "good")]
    holds = [ledger.ask(each, claims(caps, each)) for each in asked]
    with by_hand(tmp_path) as other:
        other.execute(
            "CREATE TRIGGER bad BEFORE INSERT ON ledger WHEN new.tag = 'bad' "
            "BEGIN SELECT raise(FAIL, 'no'); END"
        )
    with pytest.raises(StoreError, match="disk space"):
        ledger.admit_all(holds)
    assert [hold.row for hold in holds] == [0, 0, 0]
    only_row(ledger)
    standing = ledger.standing(FACTS, claims(caps, opening(NOON_S)), NOON_S)
    assert [each.used for each in standing] == [1, 1]


def test_processes_that_admit_in_the_same_microseconds(ledger, tmp_path):
    with open_store(tmp_path / "data") as other:
        for each in (ledger, other.ledger, ledger):
            asked = [each.ask(opening(NOON_S + number * 2e-6), []) for number in range(4)]
            each.admit_all(asked)
            rows = {row.id: row.time_s for row in ledger.rows(0, 1e12)}
            assert all(rows[hold.opening.id] == hold.row / 1e6 for hold in asked)
    assert len(rows) == 12


# --- groups of settlements ------------------------------------------------------------------------


def test_settlements_are_collected_and_come_with_the_next_admission(ledger, tmp_path):
    calls: list[int] = []
    ledger.waiting = lambda: calls.append(1)
    one = cap("concurrent", 1)
    for _ in range(3):
        ledger.settle(admit(ledger, [one]), closing())
    other = admit(ledger, [])
    assert len(calls) == 3
    ledger.settle(other, closing())
    ledger.settle(other, closing())
    assert sql(tmp_path, "SELECT count(*) FROM ledger WHERE open = 1") == [(1,)]
    ledger.flush()
    assert sql(tmp_path, "SELECT count(*) FROM ledger WHERE open = 1") == [(0,)]


def test_a_refusal_does_not_lose_what_waited(ledger, tmp_path):
    ledger.waiting = lambda: None
    limit = cap("requests", 1, "day")
    ledger.settle(admit(ledger, [limit], NOON_S), closing(output_tokens=7))
    refused(ledger, [limit], NOON_S)
    assert sql(tmp_path, "SELECT open, output_tokens FROM ledger") == [(0, 7)]


def test_a_closing_that_cannot_be_written_stops_no_other(ledger, tmp_path):
    ledger.waiting = lambda: None
    bad, good = admit(ledger, []), admit(ledger, [])
    ledger.settle(bad, closing(first_byte_ms=object()))
    ledger.settle(good, closing(output_tokens=3))
    with pytest.raises(StoreError):
        admit(ledger, [])
    admit(ledger, [])
    assert sql(tmp_path, "SELECT open, output_tokens FROM ledger ORDER BY time_us") == [
        (1, 0),
        (0, 3),
        (1, 0),
    ]


def test_checkpoints_are_made_elsewhere(ledger, tmp_path):
    ledger.checkpoints_elsewhere = True
    file = tmp_path / "data" / "llamakey.db"
    size = file.stat().st_size
    for _ in range(1500):
        ledger.settle(admit(ledger, []), closing())
    assert file.stat().st_size == size
    thread = threading.Thread(target=ledger.checkpoint)
    thread.start()
    thread.join()
    assert file.stat().st_size > size
    assert len(list(ledger.rows(0, 1e12))) == 1500


def test_what_counts_once_counts_once_in_all_processes(ledger, tmp_path):
    later = time.time() + 60
    with open_store(tmp_path / "data") as other:
        assert ledger.first("a", later) and not ledger.first("a", later)
        assert not other.ledger.first("a", later) and other.ledger.first("b", later)
    assert not ledger.first("b", later), "nor is it forgotten with a process"


def test_a_close_commits_what_waits(tmp_path):
    with open_store(tmp_path / "data") as store:
        store.ledger.waiting = lambda: None
        store.ledger.settle(admit(store.ledger, []), closing())
    assert sql(tmp_path, "SELECT open FROM ledger") == [(0,)]


# --- failures -------------------------------------------------------------------------------------


def test_a_locked_store_refuses_and_keeps_what_waits(ledger, tmp_path):
    calls: list[int] = []
    ledger.waiting = lambda: calls.append(1)
    limit = cap("concurrent", 5)
    hold = admit(ledger, [limit])
    blocker = sqlite3.connect(tmp_path / "data" / "llamakey.db", autocommit=True)
    blocker.execute("BEGIN IMMEDIATE")
    ledger.settle(hold, closing(output_tokens=3))
    for _ in range(30):
        with pytest.raises(StoreError, match="Another process holds the ledger"):
            admit(ledger, [limit])
        with pytest.raises(StoreError):
            ledger.flush()
    blocker.execute("ROLLBACK")
    blocker.close()
    admit(ledger, [limit])
    assert sql(tmp_path, "SELECT open, output_tokens FROM ledger ORDER BY time_us") == [
        (0, 3),
        (1, 0),
    ]
    [standing] = ledger.standing(FACTS, claims([limit], opening()), time.time())
    assert standing.reserved == 1


def test_a_failing_transaction_changes_nothing(ledger, tmp_path):
    caps = [cap("requests", 5, "hour"), cap("nusd", 100, "day")]
    admit(ledger, caps, NOON_S, cost_nusd=1)
    with sqlite3.connect(tmp_path / "data" / "llamakey.db") as other:
        other.execute(
            "CREATE TRIGGER bad BEFORE INSERT ON ledger BEGIN SELECT raise(FAIL, 'no'); END"
        )
    other.close()
    with pytest.raises(StoreError, match="disk space"):
        admit(ledger, caps, NOON_S, cost_nusd=1)
    standing = ledger.standing(FACTS, claims(caps, opening(NOON_S)), NOON_S)
    assert [each.used for each in standing] == [1, 1]


def test_a_file_put_in_its_place_is_used(ledger, tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite_ledger, "_IDENTITY_S", -1.0)
    admit(ledger, [])
    file = tmp_path / "data" / "llamakey.db"
    sql(tmp_path, "PRAGMA wal_checkpoint(TRUNCATE)")
    copy = tmp_path / "copy.db"
    with sqlite3.connect(file) as source, sqlite3.connect(copy) as target:
        source.backup(target)
    source.close()
    target.close()
    admit(ledger, [])
    for suffix in ("-wal", "-shm"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)
    copy.replace(file)
    admit(ledger, [])
    assert ledger.recover() == 1  # what was open in the copy is nobody's now
    assert [row.open for row in ledger.rows(0, 1e12)] == [False, True]


# --- what the owner's command asks ----------------------------------------------------------------


def test_totals(ledger):
    berlin = ZoneInfo("Europe/Berlin")
    for hours, user, model, cost, more in (
        (0, "alice", "a", 5, {}),
        (10.9, "alice", "a", 7, {"quality": "estimated"}),
        (11.1, "bob", "b", 11, {"quality": "unpriced"}),
        (30, "bob", "a", 13, {"status": 500}),
    ):
        hold = admit(ledger, [], NOON_S + hours * 3600, user=user, model=model)
        ledger.settle(hold, closing(100, 10, cost, **more))
    admit(ledger, [], NOON_S, user="alice", model="a", cost_nusd=3, output_tokens=8)
    [everything] = ledger.totals(0, 1e12, [])
    assert (everything.of, everything.requests, everything.open) == ((), 5, 1)
    assert (everything.cost_nusd, everything.failed, everything.unpriced) == (39, 1, 1)
    assert (everything.input_tokens, everything.output_tokens) == (400, 48)
    assert [(t.of, t.cost_nusd) for t in ledger.totals(0, 1e12, ["user", "model"])] == [
        (("alice", "a"), 15),
        (("bob", "a"), 13),
        (("bob", "b"), 11),
    ]
    days = ledger.totals(0, 1e12, ["day"], zone=berlin)  # 22:54 UTC is 23:54 there
    assert [(t.of, t.requests) for t in days] == [(("2025-11-29",), 2), (("2025-11-28",), 3)]
    [alice] = ledger.totals(0, 1e12, ["user"], {"user": "alice", "status": "200"})
    assert (alice.requests, alice.cost_nusd) == (2, 12)
    assert ledger.totals(NOON_S + 40 * 3600, 1e12, []) == []
    assert [t.requests for t in ledger.totals(NOON_S, NOON_S + 1, [])] == [2]
    assert [row.facts.user for row in ledger.rows(0, 1e12, {"model": "b"})] == ["bob"]


def test_what_is_remembered_is_there_after_a_restart(tmp_path):
    with open_store(tmp_path / "data") as store:
        assert store.ledger.learned("k", "openai", "chat", "m") == {}
        store.ledger.remember("k", "openai", "chat", "m", lambda: {"output": 12.5})
        store.ledger.remember("k", "openai", "chat", "m", lambda: {"output": 13.5})
    with open_store(tmp_path / "data") as store:
        assert store.ledger.learned("k", "openai", "chat", "m") == {"output": 13.5}


def test_windows_of_a_zone(ledger):
    """A budget of a day in Berlin renews at its midnight, 23:00 UTC."""
    windows = Windows(ZoneInfo("Europe/Berlin"))
    budget = cap("nusd", 10, "day")
    for hours, passes in ((0, True), (10.99, False), (11, True)):
        each = opening(NOON_S + hours * 3600, cost_nusd=10)
        if passes:
            hold = ledger.admit(each, claims([budget], each, windows))
            ledger.settle(hold, closing(cost_nusd=10))
        else:
            with pytest.raises(CapReached):
                ledger.admit(each, claims([budget], each, windows))


# --- a row of which the model comes to be known ---------------------------------------------------


def test_a_row_is_admitted_anew_for_the_model_that_it_turns_out_to_be(ledger):
    every, of_it = cap("nusd", 1000, "day"), cap("nusd", 100, "day", of=Rule(models=("dear*",)))
    rate = cap("requests", 9, "hour")
    before = opening(NOON_S, model="", cost_nusd=1)
    hold = ledger.admit(before, claims([every, rate], before))
    after = opening(NOON_S, model="dear-1", input_tokens=7, cost_nusd=40)
    ledger.readmit(hold, after, claims([every, of_it, rate], after), again=False)
    row = only_row(ledger)
    assert (row.facts.model, row.input_tokens, row.cost_nusd) == ("dear-1", 7, 40)
    used = [each.used for each in ledger.standing(after.facts, hold.claims, NOON_S)]
    assert used == [40, 40, 1]
    again = opening(NOON_S, model="dear-1", input_tokens=9, cost_nusd=60)
    ledger.readmit(hold, again, claims([every, of_it, rate], again), again=True)
    used = [each.used for each in ledger.standing(after.facts, hold.claims, NOON_S)]
    assert used == [60, 60, 2], "one request more, and the new estimate in place of the old"
    ledger.settle(hold, closing(cost_nusd=55))
    standing = ledger.standing(after.facts, hold.claims, NOON_S)
    assert [(each.settled, each.reserved) for each in standing] == [(55, 0), (55, 0), (2, 0)]


def test_a_row_that_is_not_admitted_anew_stays_as_it_was(ledger):
    every, of_it = cap("nusd", 1000, "day"), cap("nusd", 100, "day", of=Rule(models=("dear*",)))
    before = opening(NOON_S, model="", cost_nusd=5)
    hold = ledger.admit(before, claims([every], before))
    after = opening(NOON_S, model="dear-1", cost_nusd=101)
    with pytest.raises(CapReached) as caught:
        ledger.readmit(hold, after, claims([every, of_it], after), again=False)
    assert caught.value.standing.claim.cap == of_it
    row = only_row(ledger)
    assert (row.facts.model, row.cost_nusd) == ("", 5)
    [standing] = ledger.standing(before.facts, hold.claims, NOON_S)
    assert (standing.settled, standing.reserved) == (0, 5)
    ledger.settle(hold, closing(cost_nusd=3))
    [standing] = ledger.standing(before.facts, hold.claims, NOON_S)
    assert (standing.settled, standing.reserved) == (3, 0)
