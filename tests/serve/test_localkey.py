"""The owner's own key: reused or minted, and its file made whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from llamakey_addon.serve import envfile, localkey
from llamakey_addon.store import Store, open_store


@pytest.fixture
def store(tmp_path):
    with open_store(tmp_path / "data") as opened:
        yield opened


@pytest.fixture
def path(tmp_path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work" / envfile.FILE_NAME


def content(key: localkey.LocalKey) -> str:
    return f"export LLAMAKEY_API_KEY={key.text}\n"


def test_reused_while_it_verifies(store: Store, path: Path):
    first = localkey.make(path, store, content)
    assert first.new
    again = localkey.make(path, store, content)
    assert not again.new
    assert (again.text, again.name) == (first.text, first.name)
    store.revoke(first.name)
    assert localkey.make(path, store, content).text != first.text


def test_a_key_of_another_proxy_is_not_reused(store: Store, path: Path, tmp_path):
    with open_store(tmp_path / "other") as other:
        foreign = localkey.mint(other)
    path.write_text(content(foreign))
    assert localkey.verified(path, store) is None
    assert localkey.make(path, store, content).text != foreign.text


def test_a_key_with_a_known_id_and_another_secret_is_not_reused(store: Store, path: Path):
    known, other = localkey.mint(store), localkey.mint(store)
    # A well-formed key is needed: the checksum covers the id.
    path.write_text(known.text[:20] + other.text[20:])
    assert localkey.verified(path, store) is None


def test_the_first_valid_one_of_several_is_taken(store: Store, path: Path):
    old, valid = localkey.mint(store, "a"), localkey.mint(store, "b")
    store.revoke(old.name)
    path.write_text(f"# {old.text}\nX={valid.text}\nY=hf_{valid.text}\n")
    found = localkey.verified(path, store)
    assert found is not None
    assert found.text == valid.text


@pytest.mark.parametrize("what", ["nothing", "bytes", "folder", "dangling"])
def test_what_is_no_such_file_is_none(path: Path, what):
    if what == "bytes":
        path.write_bytes(os.urandom(4096))
    elif what == "folder":
        path.mkdir()
    elif what == "dangling":
        path.symlink_to("nowhere")
    assert envfile.find_keys(localkey.read(path)) == []


def test_private_whole_and_alone(store: Store, path: Path):
    old = os.umask(0)
    try:
        localkey.make(path, store, content)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_link_is_replaced_and_what_it_names_is_left(store: Store, path: Path, tmp_path):
    (tmp_path / "precious").write_text("precious")
    path.symlink_to(tmp_path / "precious")
    localkey.make(path, store, content)
    assert (tmp_path / "precious").read_text() == "precious"
    assert not path.is_symlink()


def test_a_failure_on_the_way_leaves_the_old_file_and_no_key(store: Store, path: Path):
    path.write_text("old")

    def failing(key: localkey.LocalKey) -> str:
        raise RuntimeError("on the way")

    with pytest.raises(RuntimeError):
        localkey.make(path, store, failing)
    assert path.read_text() == "old"
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    rows = store.keys()
    assert all(row.revoked for row in rows)


def test_a_folder_that_is_not_there_names_the_remedy(store: Store, tmp_path):
    with pytest.raises(localkey.FileRefused, match="lmk keys new NAME --env"):
        localkey.make(tmp_path / "nowhere" / "x.env", store, content)
    assert store.keys() == []


@pytest.mark.parametrize(
    ("login", "user"),
    [
        ("alice", "alice"),
        ("CORP\\al ice", "CORP-al-ice"),
        ("\u00e9", "owner"),
        ("x" * 99, "x" * 48),
    ],
)
def test_the_login_becomes_a_name_that_the_store_takes(store: Store, monkeypatch, login, user):
    monkeypatch.setattr("getpass.getuser", lambda: login)
    key = localkey.mint(store)
    assert (key.user, key.name) == (user, user)
    assert localkey.mint(store).name == f"{user}-2"


def test_without_a_login_there_is_an_owner(monkeypatch):
    def unknown() -> str:
        raise OSError("no such user")

    monkeypatch.setattr("getpass.getuser", unknown)
    assert localkey.current_user() == "owner"


def test_a_key_does_not_show_in_a_repr(store: Store):
    key = localkey.mint(store)
    assert key.text not in repr(key)
