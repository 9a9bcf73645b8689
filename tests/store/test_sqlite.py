from __future__ import annotations

import math
import os
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from llamakey_addon import keys
from llamakey_addon.errors import ConfigError
from llamakey_addon.store import NameTaken, StoreError, UnknownKey, open_store
from llamakey_addon.store.migrations import MIGRATIONS
from llamakey_addon.store.sqlite import SqliteStore
from tests.store.stores import REPO, add, in_another_process, rows

# --- what it keeps --------------------------------------------------------------------------------


def test_a_key_is_kept_as_its_hash(folder):
    with open_store(folder) as store:
        before_s = time.time()
        row, text = add(store, "alice-laptop", "alice")
        assert before_s <= row.created_s <= time.time()
    with open_store(folder) as store:
        assert store.keys() == [row]
        assert store.key(row.id) == row
        parsed = keys.parse(text)
        assert parsed is not None and parsed.digest == row.digest
        assert store.key("abcdefghij") is None
    for file in folder.iterdir():
        assert text.encode() not in file.read_bytes()
        assert text[18:60].encode() not in file.read_bytes()
    assert row.digest.hex() not in repr(row) and str(row.digest) not in repr(row)


def test_names_are_unique_among_living_keys(store):
    first, _ = add(store, "alice")
    with pytest.raises(NameTaken, match="lmk keys revoke alice"):
        add(store, "alice", "bob")
    store.revoke("alice")
    second, _ = add(store, "alice")
    assert [row.id for row in rows(store)] == [first.id, second.id]
    assert [row.id for row in store.revoke("alice")] == [second.id]


@pytest.mark.parametrize("name", ["", " ", " a", "a\n", "a" * 65, "a\x1b[31m", "*"])
def test_names_are_plain(store, name):
    for args in ((name, "alice"), ("alice", name)):
        with pytest.raises(StoreError, match="Choose another"):
            store.add_key(*args, keys.mint())
    assert store.keys() == []


@pytest.mark.parametrize("name", ["Jürgen", "alice@corp.example", "Alice Smith", "a" * 64])
def test_names_may_be_anybodys(store, name):
    assert add(store, name)[0].name == name


def test_a_key_is_no_name_and_is_not_echoed(store):
    text = keys.mint().text
    with pytest.raises(StoreError) as caught:
        store.add_key(text, "alice", keys.mint())
    assert text not in str(caught.value)


@pytest.mark.parametrize("form", ["name", "id", "text", "prefixed", "masked"])
def test_revoke_takes_every_form(store, form):
    row, text = add(store)
    add(store, "bob")
    wanted = {
        "name": "alice",
        "id": row.id,
        "text": text,
        "prefixed": f"hf_{text}",
        "masked": keys.mask_local(text),
    }[form]
    assert store.find(wanted) == row
    [revoked] = store.revoke(wanted)
    assert revoked.id == row.id and revoked.revoked and revoked.revoked_s is not None
    assert store.key(row.id) == revoked
    assert store.revoke(wanted) == [revoked]  # stays as it is
    assert [r.revoked for r in rows(store)] == [True, False]


def test_revoke_of_nobody_names_the_nearest(store):
    add(store, "alice-laptop")
    with pytest.raises(UnknownKey, match=r"Did you mean alice-laptop\?.*lmk keys list"):
        store.revoke("alice-latop")
    text = keys.mint().text
    with pytest.raises(UnknownKey) as caught:
        store.revoke(text)
    assert text not in str(caught.value) and text[18:] not in str(caught.value)


def test_a_failed_write_leaves_nothing_open(store):
    add(store)
    for _ in range(3):
        with pytest.raises(NameTaken):
            add(store)
        with pytest.raises(UnknownKey):
            store.revoke("nobody")
    add(store, "bob")


# --- several processes ----------------------------------------------------------------------------


def test_another_process_is_seen_at_once(store, folder):
    row, _ = add(store)
    assert store.key(row.id) == row
    in_another_process(folder, "store.revoke('alice')")
    seen = store.key(row.id)
    assert seen is not None and seen.revoked  # at the next call, without a wait
    made = in_another_process(
        folder, "print(store.add_key('bob', 'bob', keys.mint()).id)"
    ).stdout.strip()
    found = store.key(made)
    assert found is not None and found.name == "bob"


def test_a_killed_writer_loses_nothing_that_it_confirmed(store, folder):
    process = in_another_process(
        folder,
        "import os\n"
        "row = store.add_key('bob', 'bob', keys.mint())\n"
        "print(row.id, flush=True)\n"
        "store._connection.execute('BEGIN IMMEDIATE')\n"
        "store._connection.execute('DELETE FROM local_key')\n"
        "os._exit(0)\n",  # as by kill -9: neither a rollback nor a close
    )
    assert store.key(process.stdout.strip()) is not None
    add(store, "carol")
    assert [row.name for row in rows(store)] == ["bob", "carol"]


def test_many_processes_make_and_write_one_store(folder):
    code = "import sys\nfor n in range(10): store.add_key(f'{sys.argv[2]}-{n}', 'u', keys.mint())\n"
    folder.parent.mkdir(parents=True)
    running = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import sys\nfrom pathlib import Path\nfrom llamakey_addon import keys\n"
                f"from llamakey_addon.store import open_store\n"
                f"store = open_store(Path(sys.argv[1]))\n{code}",
                str(folder),
                str(number),
            ],
            cwd=REPO,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    for process in running:
        _, errors = process.communicate(timeout=100)
        assert process.returncode == 0, errors
    with open_store(folder) as store:
        assert len({row.name for row in rows(store)}) == 40


def test_two_stores_of_one_process_see_each_other(folder):
    with open_store(folder) as one, open_store(folder) as other:
        row, _ = add(one)
        assert other.key(row.id) == row
        other.revoke(row.id)
        seen = one.key(row.id)
        assert seen is not None and seen.revoked


def test_a_second_store_does_not_drop_the_locks_of_the_first(folder):
    """A descriptor opened and closed beside SQLite would, and the next closer would take the WAL
    away under the first."""
    with open_store(folder) as one:
        row, _ = add(one)
        open_store(folder).close()
        in_another_process(folder, "store.close()")
        assert (folder / "llamakey.db-wal").exists()
        assert one.key(row.id) == row


def test_a_writer_that_is_held_up_says_so(store, folder, monkeypatch):
    blocker = sqlite3.connect(folder / "llamakey.db", autocommit=True)
    blocker.execute("BEGIN IMMEDIATE")
    store._connection.execute("PRAGMA busy_timeout = 50")
    with pytest.raises(StoreError, match="Another process holds"):
        add(store)
    assert store.keys() == []  # readers go on
    blocker.execute("ROLLBACK")
    blocker.close()
    add(store)


def later(store):
    """When the mark alone is no longer believed: a few hundredths of a second from now."""
    store._trust_until_s = 0.0


def test_what_others_changed_is_seen_at_once_by_its_mark(store, folder, monkeypatch):
    row, _ = add(store)
    assert store.key(row.id) == row
    store._trust_until_s = math.inf
    with open_store(folder) as other:
        other.revoke("alice")
    seen = store.key(row.id)
    assert seen is not None and seen.revoked


def test_without_a_mark_each_read_looks_for_itself(folder):
    (folder / "llamakey.db-keys").mkdir(parents=True)
    folder.chmod(0o700)
    with SqliteStore.open(folder) as store, open_store(folder) as other:
        row, _ = add(store)
        assert store.key(row.id) == row
        store._trust_until_s = math.inf
        other.revoke("alice")
        seen = store.key(row.id)
        assert seen is not None and seen.revoked


def test_a_replaced_file_is_noticed(store, folder, tmp_path):
    row, _ = add(store)
    with open_store(tmp_path / "backup") as backup:
        other, _ = add(backup, "bob")
    assert store.key(row.id) == row
    os.replace(tmp_path / "backup" / "llamakey.db", folder / "llamakey.db")
    for suffix in ("-wal", "-shm"):
        (folder / f"llamakey.db{suffix}").unlink(missing_ok=True)
    later(store)
    assert store.key(row.id) is None
    assert store.key(other.id) == other


def test_a_removed_file_serves_nothing(store, folder):
    row, _ = add(store)
    kept = (folder / "llamakey.db").rename(folder / "away")
    for _ in range(2):
        later(store)
        with pytest.raises(StoreError, match="gone or unreadable"):
            store.key(row.id)
    kept.rename(folder / "llamakey.db")
    assert store.key(row.id) == row


def test_damage_is_an_error_and_no_empty_store(store, folder):
    row, _ = add(store)
    other = sqlite3.connect(folder / "llamakey.db", autocommit=True)
    other.execute("DROP TABLE local_key")
    other.close()
    later(store)
    with pytest.raises(StoreError, match="put back a backup"):
        store.key(row.id)


def test_something_else_in_its_place_is_an_error(store, folder, tmp_path):
    row, _ = add(store)
    (tmp_path / "else").write_bytes(b"no database, but long enough " * 300)
    os.replace(tmp_path / "else", folder / "llamakey.db")
    for suffix in ("-wal", "-shm"):
        (folder / f"llamakey.db{suffix}").unlink()
    later(store)
    with pytest.raises(StoreError, match="put back a backup"):
        store.key(row.id)


def test_it_belongs_to_one_thread(store):
    caught: list[BaseException] = []

    def use() -> None:
        try:
            store.key("abcdefghij")
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert isinstance(caught[0], StoreError)


def test_closed_is_closed(folder):
    store = open_store(folder)
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.keys()


# --- files ----------------------------------------------------------------------------------------


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_folder_and_files_are_ours_alone_under_any_umask(folder):
    before = os.umask(0)
    try:
        with open_store(folder) as store:
            add(store)
            files = list(folder.iterdir())
            assert {file.name for file in files} == {
                "llamakey.db",
                "llamakey.db-keys",
                "llamakey.db-wal",
                "llamakey.db-shm",
            }
            assert {mode(file) for file in files} == {0o600}
            assert mode(folder) == 0o700
    finally:
        os.umask(before)


def test_modes_of_an_older_store_are_tightened(folder):
    open_store(folder).close()
    folder.chmod(0o755)
    (folder / "llamakey.db").chmod(0o644)
    with open_store(folder) as store:
        add(store)
        assert mode(folder) == 0o700
        assert {mode(file) for file in folder.iterdir()} == {0o600}


def test_a_folder_with_other_things_is_not_changed(tmp_path):
    (tmp_path / "other").write_text("")
    tmp_path.chmod(0o755)
    open_store(tmp_path).close()
    assert mode(tmp_path) == 0o755
    assert mode(tmp_path / "llamakey.db") == 0o600


@pytest.mark.parametrize("bits", [0o777, 0o1777])
def test_a_folder_that_everybody_may_write_is_refused(tmp_path, bits):
    (tmp_path / "other").write_text("")
    tmp_path.chmod(bits)
    with pytest.raises(ConfigError, match=f"LLAMAKEY_HOME={tmp_path}/llamakey"):
        open_store(tmp_path)
    assert not (tmp_path / "llamakey.db").exists()
    assert mode(tmp_path) == bits
    open_store(tmp_path / "llamakey").close()


def test_a_folder_that_can_not_be_made_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"can't be used.*LLAMAKEY_HOME"):
        open_store(tmp_path / "file" / "data")


@pytest.mark.parametrize("content", [b"no database, but long enough " * 300, b"short"])
def test_what_is_no_store_is_left_alone(folder, content):
    folder.mkdir(parents=True)
    (folder / "llamakey.db").write_bytes(content)
    with pytest.raises(ConfigError, match="can't be opened"):
        open_store(folder)
    assert (folder / "llamakey.db").read_bytes() == content


def test_another_programs_database_is_left_alone(folder):
    folder.mkdir(parents=True)
    path = folder / "llamakey.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs (a)")
    other.close()
    content = path.read_bytes()
    with pytest.raises(ConfigError, match="belongs to another program"):
        open_store(folder)
    assert path.read_bytes() == content


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_a_newer_schema_is_refused_untouched(folder, journal):
    with open_store(folder) as store:
        add(store)
    path = folder / "llamakey.db"
    newer = sqlite3.connect(path, autocommit=True)
    newer.execute(f"PRAGMA journal_mode = {journal}")
    newer.execute("ALTER TABLE local_key ADD COLUMN team TEXT")
    newer.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 3}")
    newer.close()
    content = path.read_bytes()
    with pytest.raises(ConfigError) as caught:
        open_store(folder)
    assert "newer LlamaKey" in str(caught.value)
    assert f"schema {len(MIGRATIONS) + 3}" in str(caught.value)
    assert "pip install -U llamakey" in str(caught.value)
    assert path.read_bytes() == content


def test_a_newer_schema_in_the_wal_of_a_running_process_is_refused(folder):
    open_store(folder).close()
    path = folder / "llamakey.db"
    newer = sqlite3.connect(path, autocommit=True)
    newer.execute("PRAGMA wal_autocheckpoint = 0")
    newer.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    content, wal = path.read_bytes(), (folder / "llamakey.db-wal").read_bytes()
    with pytest.raises(ConfigError, match="newer LlamaKey"):
        open_store(folder)
    assert path.read_bytes() == content
    assert (folder / "llamakey.db-wal").read_bytes() == wal
    newer.close()


def test_migrations_are_named_once_and_noted(folder):
    open_store(folder).close()
    open_store(folder).close()
    connection = sqlite3.connect(folder / "llamakey.db")
    names = [name for (name,) in connection.execute("SELECT name FROM migration ORDER BY name")]
    connection.close()
    assert names == [migration.name for migration in MIGRATIONS]
    assert len(set(names)) == len(names)


def test_a_migration_that_fails_changes_nothing(folder, monkeypatch):
    from llamakey_addon.store import migrations, sqlite

    broken = (
        *MIGRATIONS,
        migrations.Migration("9999_broken", ("CREATE TABLE half (a)", "NOT SQL")),
    )
    open_store(folder).close()
    monkeypatch.setattr(sqlite, "MIGRATIONS", broken)
    with pytest.raises(ConfigError, match="can't be opened"):
        open_store(folder)
    monkeypatch.undo()
    with open_store(folder) as store:
        assert store._connection.execute(  # type: ignore[attr-defined]
            "SELECT count(*) FROM sqlite_schema WHERE name = 'half'"
        ).fetchone() == (0,)


def test_writes_are_synced_in_full(store):
    assert store._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert store._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
