"""`lmk keys`: make, list, revoke."""

from __future__ import annotations

import json
import os
import stat

import pytest

from llamakey_addon import keys
from llamakey_addon.serve import envfile
from tests.cli.command import ANSI, LOCAL_KEY, REAL_KEY


def test_a_new_key_is_printed_alone_so_that_a_script_can_take_it(lmk):
    done = lmk("keys", "new", "bob")
    assert done.code == 0
    assert LOCAL_KEY.fullmatch(done.out.rstrip("\n"))
    assert keys.parse(done.out.strip())
    assert "shown this once" in done.err


def test_the_store_is_private_and_holds_no_key(lmk):
    key = lmk("keys", "new", "bob").out.strip()
    files = [path for path in lmk.home.rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert key.rpartition("-")[2].encode() not in path.read_bytes()
    assert stat.S_IMODE(lmk.home.stat().st_mode) == 0o700


def test_list_and_revoke(lmk):
    key = lmk("keys", "new", "bob-laptop", "--user", "bob").out.strip()
    lmk("keys", "new", "carol")
    rows = json.loads(lmk("keys", "list", "--json").out)
    assert [(row["name"], row["user"], row["revoked"]) for row in rows] == [
        ("bob-laptop", "bob", None),
        ("carol", "carol", None),
    ]
    assert rows[0]["id"] in key

    done = lmk("keys", "revoke", "bob-laptop")
    assert (done.code, done.err) == (0, "")
    assert "'bob-laptop' of bob" in done.out
    assert "is revoked" in done.out
    assert "was revoked already" in lmk("keys", "revoke", rows[0]["id"]).out
    plain = lmk("keys", "list").out.splitlines()
    assert plain[0].startswith("bob-laptop  ")
    assert " revoked 20" in plain[0]
    assert plain[1].endswith("valid")


def test_an_unknown_or_taken_name_is_told(lmk):
    lmk("keys", "new", "bob")
    done = lmk("keys", "revoke", "bop")
    assert done.code == 1
    assert "bob" in done.err
    done = lmk("keys", "new", "bob")
    assert done.code == 1
    assert "lmk keys revoke bob" in done.err
    assert done.out == ""


def test_an_empty_list_says_how_to_begin(lmk):
    done = lmk("keys", "list")
    assert (done.code, done.out) == (0, "")
    assert "lmk keys new NAME" in done.err
    assert lmk("keys", "list", "--json").out == "[]\n"


def test_the_file_for_a_teammate_has_all_of_it(lmk):
    (lmk.folder / "config.yaml").write_text("public_url: https://llm.corp.example\n")
    done = lmk("keys", "new", "bob", "--env", env={"OPENAI_API_KEY": REAL_KEY})
    assert done.code == 0
    (key,) = envfile.find_keys(done.out)
    assert "export OPENAI_BASE_URL=https://llm.corp.example/openai/v1\n" in done.out
    assert f"export OPENAI_API_KEY={key}\n" in done.out
    assert "ANTHROPIC" not in done.out, "only what is served"
    assert REAL_KEY not in done.out
    assert done.err == ""


def test_the_file_for_a_teammate_warns_of_what_will_not_work(lmk):
    done = lmk("keys", "new", "bob", "--env")
    assert "no real key is set" in done.err
    assert "public_url" in done.err
    assert "export ANTHROPIC_BASE_URL=http://localhost:8000/anthropic\n" in done.out


def test_a_faulty_config_leaves_no_key_that_nobody_saw(lmk):
    (lmk.folder / "config.yaml").write_text("publik_url: https://llm.corp.example\n")
    done = lmk("keys", "new", "bob", "--env")
    assert done.code == 2
    assert "config.yaml:1" in done.err
    assert "public_url" in done.err
    assert json.loads(lmk("keys", "list", "--json").out) == []


@pytest.mark.parametrize("named_by_file", [False, True])
def test_a_key_can_be_revoked_while_the_config_is_faulty(lmk, named_by_file):
    text = "data_folder: ../elsewhere\n" if named_by_file else ""
    env = {"LLAMAKEY_HOME": ""} if named_by_file else {}
    (lmk.folder / "config.yaml").write_text(text)
    lmk("keys", "new", "bob", env=env)
    (lmk.folder / "config.yaml").write_text(
        text + "unknown: 1\nproviders: {openai: {key: cmd:x}}\n"
    )
    done = lmk("keys", "revoke", "bob", env=env)
    assert done.code == 0, done.err
    assert (lmk.folder.parent / "elsewhere" / "llamakey.db").exists() == named_by_file


def test_a_data_folder_that_cannot_be_used_is_told(lmk):
    (lmk.folder / "file").write_text("")
    done = lmk("keys", "list", env={"LLAMAKEY_HOME": str(lmk.folder / "file" / "x")})
    assert done.code == 2
    assert "LLAMAKEY_HOME" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("columns", [40, 60, 80, 120])
def test_the_list_fits_the_terminal(lmk, columns):
    lmk("keys", "new", "a-name-that-is-quite-long-for-a-key", "--user", "bob")
    done = lmk.on_terminal("keys", "list", columns=columns)
    assert done.code == 0
    lines = ANSI.sub("", done.out).splitlines()
    assert max(len(line.rstrip()) for line in lines) <= columns
    assert any("valid" in line for line in lines)


def test_umask_does_not_matter(lmk):
    old = os.umask(0)
    try:
        lmk("keys", "new", "bob")
    finally:
        os.umask(old)
    assert stat.S_IMODE((lmk.home / "llamakey.db").stat().st_mode) == 0o600
