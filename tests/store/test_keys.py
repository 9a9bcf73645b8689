"""What the store keeps of keys beyond their hash: ends, rotation, scope, networks, last use."""

from __future__ import annotations

import itertools
import sqlite3
import time
from pathlib import Path

import pytest

from llamakey_addon import keys
from llamakey_addon.store import KeyRow, NameTaken, Store, StoreError, open_store
from llamakey_addon.store.migrations import APPLICATION_ID, MIGRATIONS
from tests.store.stores import add, in_another_process, rows

DAY_S = 86400.0


def make(store: Store, name: str = "laptop", user: str = "alice", **more) -> KeyRow:
    return add(store, name, user, **more)[0]


def rotate(store: Store, name: str = "laptop", **more) -> tuple[KeyRow, KeyRow]:
    return store.rotate(name, keys.mint(), **{"overlap_s": DAY_S, "expires_s": None, **more})


def test_a_users_several_keys_are_each_their_own(store):
    laptop = make(store)
    ci = make(
        store, "ci", scope='{"allow": []}', networks=("10.0.0.0/8", "fd00::/8"), expires_s=9e9
    )
    assert [row.user for row in rows(store)] == ["alice", "alice"]
    assert (laptop.scope, laptop.networks, laptop.expires_s) == ("", (), None)
    assert store.key(ci.id) == ci
    assert ci.networks == ("10.0.0.0/8", "fd00::/8")


@pytest.mark.parametrize(
    ("row", "before", "after"),
    [
        ({"expires_s": 1000.0}, None, "expired"),
        ({"rotated_s": 900.0, "retires_s": 1000.0}, None, "rotated"),
        ({"rotated_s": 900.0, "retires_s": 1000.0, "expires_s": 999.5}, "expired", "rotated"),
        ({"revoked_s": 1.0, "expires_s": 1000.0}, "revoked", "revoked"),
        ({}, None, None),
    ],
)
def test_when_a_key_has_ended(row, before, after):
    key = KeyRow("abcdefghij", "laptop", "alice", b"", 0.0, **row)
    assert key.ended(999.9) == before
    assert key.ended(1000.0) == after


def test_a_rotation_keeps_name_user_scope_and_networks(store):
    first = make(store, scope='{"allow": []}', networks=("10.0.0.0/8",), expires_s=9e9)
    before_s = time.time()
    old, new = rotate(store, expires_s=8e9)
    assert old.id == first.id
    assert before_s <= (old.rotated_s or 0) <= time.time()
    assert old.retires_s == (old.rotated_s or 0) + DAY_S
    assert (new.name, new.user, new.scope, new.networks) == (
        first.name,
        first.user,
        first.scope,
        first.networks,
    )
    assert (new.replaces, new.expires_s, new.rotated_s) == (first.id, 8e9, None)
    now_s = time.time()
    assert [row.ended(now_s) for row in rows(store)] == [None, None], "both are valid"
    assert old.ended(now_s + DAY_S) == "rotated"
    assert store.keys() == [old, new], "the history is kept"


def test_the_name_is_the_newest_ones(store):
    make(store)
    _, second = rotate(store)
    with pytest.raises(NameTaken, match="lmk keys rotate laptop"):
        make(store)
    assert store.find("laptop") == second
    _, third = rotate(store, overlap_s=0)
    assert store.find("laptop") == third
    assert [row.ended(time.time()) for row in rows(store)] == [None, "rotated", None]


def test_a_key_is_rotated_once(store):
    first = make(store, "bob laptop", "bob")
    rotate(store, "bob laptop")
    with pytest.raises(StoreError, match="lmk keys rotate 'bob laptop'"):
        rotate(store, first.id)
    store.revoke("bob laptop")
    with pytest.raises(StoreError, match="lmk keys new 'bob laptop' --user bob"):
        rotate(store, "bob laptop")
    assert len(store.keys()) == 2


def test_revoking_a_name_ends_all_of_it(store):
    make(store)
    rotate(store, overlap_s=0)
    rotate(store)
    rotate(store)
    _, second, third, fourth = store.keys()
    assert [row.id for row in store.revoke("laptop")] == [fourth.id, third.id, second.id]
    assert [row.ended(time.time()) for row in rows(store)] == ["rotated", *["revoked"] * 3]
    make(store)  # the name is free again


def test_revoking_an_id_ends_that_one_alone(store):
    first = make(store)
    rotate(store)
    assert [row.id for row in store.revoke(first.id)] == [first.id]
    assert [row.ended(time.time()) for row in rows(store)] == ["revoked", None]


def test_an_expiry_is_set_and_taken_away(store):
    row = make(store, expires_s=time.time() - 1)
    assert row.ended(time.time()) == "expired"
    assert store.expire("laptop", None).ended(time.time()) is None
    found = store.key(row.id)
    assert found is not None and found.expires_s is None
    assert store.expire(row.id, 5.0) == store.key(row.id)
    store.revoke(row.id)
    with pytest.raises(StoreError, match="revoked already"):
        store.expire(row.id, None)


# --- what a running proxy sees of it --------------------------------------------------------------


def test_validity_moves_with_each_change_of_a_key(store, folder):
    row = make(store)
    now_s = time.time()
    seen = [store.validity(now_s)]
    assert store.validity(now_s) == seen[0]
    for code in (
        "store.revoke('laptop')",
        "store.add_key('ci', 'alice', keys.mint())",
        "store.rotate('ci', keys.mint(), overlap_s=5, expires_s=None)",
        "store.expire('ci', 5)",
        "store._connection.execute('DELETE FROM local_key')",
    ):
        in_another_process(folder, code)
        seen.append(store.validity(now_s))
    assert len(set(seen)) == len(seen)
    assert store.key(row.id) is None


def test_a_look_at_all_keys_changes_nothing(store):
    make(store, "laptop")
    before = store.validity(time.time())
    for _ in range(2):
        assert len(rows(store)) == 1
        assert store.validity(time.time()) == before


def test_validity_moves_when_a_keys_time_is_up(store):
    now_s = time.time()
    make(store, "a", expires_s=now_s + 100)
    make(store, "b", expires_s=now_s + 300)
    rotate(store, "b", overlap_s=200)
    store.validity(now_s)
    seen = [store.validity(now_s + after_s) for after_s in (50, 99, 101, 150, 199, 210, 299, 301)]
    moves = [one != other for one, other in itertools.pairwise(seen)]
    assert moves == [False, True, False, False, True, False, True]


def test_what_is_no_change_of_a_key_is_not_read_again(store, folder):
    """A ledger in the same file commits at every request."""
    row = make(store)
    first = store.key(row.id)
    other = sqlite3.connect(folder / "llamakey.db", autocommit=True)
    other.execute("CREATE TABLE elsewhere (a)")
    for number in range(3):
        other.execute("INSERT INTO elsewhere VALUES (?)", (number,))
        store._trust_until_s = 0.0
        assert store.key(row.id) is first
    other.execute("UPDATE local_key SET revoked_s = 1.0")
    store._trust_until_s = 0.0
    seen = store.key(row.id)
    assert seen is not None and seen.revoked
    other.close()


# --- last use -------------------------------------------------------------------------------------


def last_uses(folder: Path) -> dict[str, float]:
    """As another connection sees them."""
    connection = sqlite3.connect(folder / "llamakey.db")
    found = dict(connection.execute("SELECT id, last_s FROM key_use").fetchall())
    connection.close()
    return found


def test_a_use_is_written_at_most_once_a_minute_a_key(store, folder):
    one, two = make(store, "one"), make(store, "two")
    assert store.keys()[0].last_used_s is None
    written = []
    for second in range(0, 130, 10):
        for row in (one, two)[: 1 + (second >= 20)]:
            store.used(row.id, 1000.0 + second)
        store.keep_uses(1000.0 + second)
        written.append(tuple(last_uses(folder).get(row.id) for row in (one, two)))
    assert written[0] == (1000.0, None)
    assert written[1] == (1000.0, None)
    assert written[2] == (1000.0, 1020.0)
    assert written[5] == (1000.0, 1020.0)
    assert written[6] == (1060.0, 1020.0)
    assert written[8] == (1060.0, 1080.0)
    assert len(set(written)) == 5
    assert [row.last_used_s for row in rows(store)] == [1120.0, 1080.0]


def test_a_stop_loses_no_use(folder):
    with open_store(folder) as store:
        row = make(store)
        store.used(row.id, 1000.0)
        store.keep_uses(1000.0)
        store.used(row.id, 1001.0)
        store.keep_uses(1001.0)
        assert last_uses(folder) == {row.id: 1000.0}
    assert last_uses(folder) == {row.id: 1001.0}


def test_the_latest_use_of_several_processes_counts(store, folder):
    row = make(store)
    with open_store(folder) as other:
        other.used(row.id, 2000.0)
        other.keep_uses(2000.0)
        store.used(row.id, 1000.0)
        store.keep_uses(1000.0)
        assert last_uses(folder) == {row.id: 2000.0}


def test_a_use_waits_for_no_writer_and_no_disk(store, folder):
    row = make(store)
    said: list[str] = []
    store._connection.set_trace_callback(said.append)
    other = sqlite3.connect(folder / "llamakey.db", autocommit=True)
    other.execute("BEGIN IMMEDIATE")
    store.used(row.id, 1000.0)
    store.keep_uses(1000.0)  # a store that waits would fail after its five seconds
    assert last_uses(folder) == {}
    other.execute("ROLLBACK")
    other.close()
    store.keep_uses(1000.0)
    assert last_uses(folder) == {row.id: 1000.0}
    commit = said.index("COMMIT")
    assert [text for text in said[:commit] if "synchronous" in text][-1].endswith("NORMAL")
    assert store._connection.execute("PRAGMA synchronous").fetchone() == (2,), "FULL again"
    assert store._connection.execute("PRAGMA busy_timeout").fetchone() == (5000,)


# --- an older store -------------------------------------------------------------------------------


def test_a_store_of_the_first_issue_goes_on(folder):
    folder.mkdir(mode=0o700, parents=True)
    path = folder / "llamakey.db"
    old = sqlite3.connect(path, autocommit=True)
    for statement in MIGRATIONS[0].statements:
        old.execute(statement)
    old.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    old.execute("PRAGMA user_version = 1")
    old.execute("INSERT INTO migration VALUES ('0001_local_keys', 1.0)")
    old.execute("INSERT INTO local_key VALUES ('abcdefghij', 'bob', 'bob', x'00', 5.0, 7.0)")
    old.execute("INSERT INTO local_key VALUES ('bcdefghijk', 'bob', 'bob', x'01', 6.0, NULL)")
    old.close()
    with open_store(folder) as store:
        assert store.keys() == [
            KeyRow("abcdefghij", "bob", "bob", b"\0", 5.0, 7.0),
            KeyRow("bcdefghijk", "bob", "bob", b"\1", 6.0),
        ]
        with pytest.raises(NameTaken):
            make(store, "bob")
        rotate(store, "bob")
