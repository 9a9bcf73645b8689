"""Tokens that stand for a local key: of one provider, for a while, by this installation alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from llamakey_addon import keys
from llamakey_addon.errors import NotReady
from llamakey_addon.tokens import FILE_NAME, LIVES_S, Tokens, looks_issued

ID = "abcdefghij"
NOW_S = 1_800_000_000.0


def test_a_token_is_read_back_by_any_process_of_the_folder(tmp_path: Path) -> None:
    text = Tokens(tmp_path).issue(ID, "vertex", NOW_S)
    token = Tokens(tmp_path).read(text, "vertex")
    assert token is not None
    assert (token.key_id, token.ends_s) == (ID, NOW_S + LIVES_S)
    assert looks_issued(text)


def test_it_is_masked_like_a_local_key_and_is_none(tmp_path: Path) -> None:
    text = Tokens(tmp_path).issue(ID, "vertex", NOW_S)
    assert keys.looks_local(text) and keys.parse(text) is None
    assert keys.redact(f"Bearer {text}.") == f"Bearer sk-lmk-{ID}-…."


def test_another_provider_folder_key_or_end_makes_another_token(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path)
    text = tokens.issue(ID, "vertex", NOW_S)
    assert tokens.read(text, "vectara") is None
    (tmp_path / "b").mkdir()
    assert Tokens(tmp_path / "b").read(text, "vertex") is None
    assert tokens.read(text.replace(ID, ID[::-1]), "vertex") is None
    ends = text.partition("-t")[2][:8]
    assert tokens.read(text.replace(ends, f"{int(ends, 16) + 1:08x}"), "vertex") is None
    assert tokens.read(text[:-1], "vertex") is None
    assert tokens.read("", "vertex") is None


def test_the_secret_is_a_file_for_us_alone_beside_the_store(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path)
    assert not list(tmp_path.iterdir())  # made when it is first needed
    tokens.issue(ID, "vertex", NOW_S)
    [path] = tmp_path.iterdir()
    assert path.name == FILE_NAME and len(path.read_bytes()) == 32
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_damaged_or_unreadable_secret_issues_nothing(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"short")
    with pytest.raises(NotReady) as raised:
        Tokens(tmp_path).issue(ID, "vertex", NOW_S)
    assert FILE_NAME in raised.value.detail and FILE_NAME not in raised.value.message
    with pytest.raises(NotReady):
        Tokens(tmp_path / "not-there").issue(ID, "vertex", NOW_S)


def test_a_pair_is_named_and_known_again(tmp_path: Path) -> None:
    modulus = (1 << 2047) + 12345
    kid = Tokens(tmp_path).name_pair(ID, modulus)
    tokens = Tokens(tmp_path)
    assert tokens.read_pair(kid) == (ID, modulus)
    assert tokens.read_pair(kid.replace(ID, ID[::-1])) is None
    other = Tokens(tmp_path).name_pair(ID, modulus + 2)
    mixed = ".".join([*other.split(".")[:3], kid.split(".")[3]])
    assert tokens.read_pair(mixed) is None
    assert tokens.read_pair("fake-key-1") is None
