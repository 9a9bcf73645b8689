"""`lmk keys`: make, list, rotate, expire, revoke."""

from __future__ import annotations

import json
import os
import re
import stat
import time
from datetime import datetime
from typing import Any

import pytest
from google.auth import crypt, jwt

from llamakey_addon import keyfile, keys
from llamakey_addon.serve import envfile
from llamakey_addon.tokens import Tokens
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
    plain = lmk.here("keys", "list").out.splitlines()
    assert plain[0].startswith("bob-laptop  bob    ")
    assert " revoked 20" in plain[0]
    assert re.search(r"  never  valid +-  -$", plain[1])


def test_an_unknown_or_taken_name_is_told(lmk):
    lmk.here("keys", "new", "bob")
    done = lmk.here("keys", "revoke", "bop")
    assert done.code == 1
    assert "bob" in done.err
    done = lmk.here("keys", "new", "bob")
    assert done.code == 1
    assert "lmk keys revoke bob" in done.err
    assert done.out == ""


def test_an_empty_list_says_how_to_begin(lmk):
    done = lmk.here("keys", "list")
    assert (done.code, done.out) == (0, "")
    assert "lmk keys new NAME" in done.err
    assert lmk.here("keys", "list", "--json").out == "[]\n"


def test_hints_name_the_command_as_it_was_typed(lmk):
    typed = {"LLAMAKEY_COMMAND": "scripts/lmk"}
    done = lmk("keys", "list", env=typed)
    assert "Make one: scripts/lmk keys new NAME" in done.err
    done = lmk("keys", "nwe", env=typed)
    assert "Usage: scripts/lmk keys " in done.err
    done = lmk("keys", "new", "bob", "--env", env=typed)
    assert "scripts/lmk" not in done.out, "the file is for another machine"


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


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_the_list_fits_the_terminal(lmk, columns):
    long = ("a-name-that-is-quite-long-for-a-key", "--user", "bob", "--from", "fd00::/8,10.0.0.0/8")
    lmk.here("keys", "new", *long, "--allow", "openai,anthropic", "--models", "gpt-5*,claude-*")
    done = lmk.on_terminal("keys", "list", columns=columns)
    assert done.code == 0
    lines = ANSI.sub("", done.out).splitlines()
    assert max(len(line.rstrip()) for line in lines) <= columns
    assert any("valid" in line for line in lines)


# --- scope, networks, ends ------------------------------------------------------------------------


def rows(lmk, *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(lmk.here("keys", "list", "--json", *arguments).out)
    return found


def test_a_key_with_a_scope_networks_and_an_end(lmk):
    done = lmk.here(
        *("keys", "new", "ci", "--user", "bob", "--allow", "openai,anthropic"),
        *("--models", "gpt-5*", "--deny", "openai/files", "--limit", "60/minute"),
        *("--budget", "5/day", "--expires", "2999-12-31", "--from", "10.1.2.3/8,192.0.2.7"),
    )
    assert done.code == 0, done.err
    assert LOCAL_KEY.fullmatch(done.out.rstrip("\n"))
    for words in ("openai,anthropic:gpt-5*", "10.0.0.0/8", "until 3000-01-01 00:00 UTC"):
        assert words in done.err
    [row] = rows(lmk)
    assert row["scope"] == {
        "allow": [{"models": ["gpt-5*"], "providers": ["openai", "anthropic"]}],
        "deny": [{"providers": ["openai"], "paths": ["files"]}],
        "limits": [{"requests": 60, "per": "minute"}],
        "budgets": [{"spend": 5, "per": "day"}],
    }
    assert row["networks"] == ["10.0.0.0/8", "192.0.2.7/32"]
    assert (row["expires"], row["state"]) == ("3000-01-01T00:00:00Z", "valid")
    plain = lmk.here("keys", "list").out
    assert "valid until 3000-01-01" in plain
    assert "60/minute; spend 5/day  10.0.0.0/8; 192.0.2.7/32" in plain


def test_a_scope_of_a_file(lmk):
    path = lmk.folder / "scope.yaml"
    path.write_text("# for the agent\nallow:\n  - {methods: [GET], paths: [/v1/models]}\n")
    assert lmk.here("keys", "new", "agent", "--scope", str(path)).code == 0
    assert rows(lmk)[0]["scope"] == {"allow": [{"methods": ["GET"], "paths": ["/v1/models"]}]}
    for text, said in (
        ("allow:\n  - {providers: [opnai]}\n", "bob:2: `opnai` is no provider"),
        ("allow:\n", "bob:1: nothing stands at `allow`"),
        ("team: red\n", "unknown setting `team`"),
        ("- a\n", "scope of key bob"),
    ):
        path.write_text(text)
        done = lmk.here("keys", "new", "bob", "--scope", str(path))
        assert done.code == 2
        assert said in done.err
        assert done.out == ""
    assert len(rows(lmk)) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--allow", "opnai"), "Did you mean `openai`?"),
        (("--limit", "60"), "60/minute"),
        (("--budget", "5/hour"), "5/day"),
        (("--expires", "soon"), "90s, 30m, 24h"),
        (("--expires", "2020-01-01"), "not in the future"),
        (("--from", "10.0.0"), "10.0.0.0/8"),
        (("--scope", "nowhere.yaml"), "nowhere.yaml"),
        (("--env", "--json"), "Choose one"),
    ],
)
def test_what_is_written_wrong_makes_no_key(lmk, options, said):
    done = lmk.here("keys", "new", "bob", *options)
    assert done.code == 2
    assert said in done.err
    assert done.out == ""
    assert rows(lmk) == []


def test_a_key_as_json_has_its_text_this_once(lmk):
    made = json.loads(lmk.here("keys", "new", "bob", "--json").out)
    parsed = keys.parse(made.pop("key"))
    assert parsed is not None and parsed.id == made["id"]
    assert rows(lmk) == [made]


def test_rotation_keeps_history_and_says_until_when(lmk):
    first = lmk.here("keys", "new", "bob", "--allow", "openai", "--expires", "30d").out.strip()
    done = lmk.here("keys", "rotate", "bob", "--overlap", "36h")
    assert done.code == 0
    second = done.out.strip()
    assert keys.parse(second) and second != first
    old, new = rows(lmk)
    assert old["id"] in done.err and "is valid until 20" in done.err
    assert new["replaces"] == old["id"]
    assert (new["name"], new["user"], new["scope"]) == (old["name"], old["user"], old["scope"])
    assert (old["state"], new["state"]) == ("valid", "valid")
    assert _hours(old["valid_until"], old["rotated"]) == 36
    assert _hours(new["expires"], new["created"]) == 30 * 24, "as long as the old one was given"
    done = lmk.here("keys", "rotate", "bob", "--overlap", "0", "--expires", "never", "--json")
    third = json.loads(done.out)
    assert (third["expires"], third["replaces"]) == (None, new["id"])
    assert keys.parse(third["key"]) is not None
    assert [row["state"] for row in rows(lmk)] == ["valid", "rotated", "valid"]
    assert [row["id"] for row in rows(lmk, "--valid")] == [old["id"], third["id"]]
    plain = lmk.here("keys", "list").out.splitlines()
    assert re.search(r"rotated, until 20\d\d-\d\d-\d\d ", plain[0])
    assert re.search(r"rotated 20\d\d-\d\d-\d\d ", plain[1])
    done = lmk.here("keys", "rotate", old["id"])
    assert done.code == 1
    assert "rotated already" in done.err


def test_a_rotation_gives_the_file_for_a_teammate(lmk):
    lmk.here("keys", "new", "bob")
    done = lmk.here("keys", "rotate", "bob", "--env", env={"OPENAI_API_KEY": REAL_KEY})
    (key,) = envfile.find_keys(done.out)
    assert f"export OPENAI_API_KEY={key}\n" in done.out


def test_revoking_a_name_ends_all_of_it_and_an_id_that_one(lmk):
    lmk.here("keys", "new", "bob")
    for _ in range(2):
        lmk.here("keys", "rotate", "bob")
    first, second, third = (row["id"] for row in rows(lmk))
    assert first in lmk.here("keys", "revoke", first).out
    done = lmk.here("keys", "revoke", "bob", "--json")
    assert [row["id"] for row in json.loads(done.out)] == [third, second]
    assert {row["state"] for row in rows(lmk)} == {"revoked"}


def test_an_expiry_is_set_moved_and_taken_away(lmk):
    lmk.here("keys", "new", "bob")
    assert "expires at 3000-01-01 00:00 UTC" in (
        lmk.here("keys", "expire", "bob", "--at", "2999-12-31").out
    )
    record = json.loads(lmk.here("keys", "expire", "bob", "--in", "1h", "--json").out)
    assert record == rows(lmk)[0]
    assert "expired at 20" in lmk.here("keys", "expire", "bob", "--in", "0").out
    assert rows(lmk)[0]["state"] == "expired"
    assert rows(lmk, "--valid") == []
    assert "does not expire" in lmk.here("keys", "expire", "bob", "--never").out
    assert rows(lmk)[0]["state"] == "valid"
    for options in ((), ("--never", "--in", "1h")):
        done = lmk.here("keys", "expire", "bob", *options)
        assert done.code == 2
        assert "--in 30d, --at 2026-12-31" in done.err


def test_days_are_those_of_the_owners_time_zone(lmk):
    config = lmk.folder / "config.yaml"
    config.write_text(
        "money: {time_zone: Asia/Tokyo}\nproviders: {opnai: {}}\n"
    )  # faulty elsewhere
    done = lmk.here("keys", "new", "bob", "--expires", "2999-12-31")
    assert "until 3000-01-01 00:00 JST" in done.err
    assert rows(lmk)[0]["expires"] == "2999-12-31T15:00:00Z"
    done = lmk.here("keys", "expire", "bob", "--at", "2999-12-31T18:00")
    assert "expires at 2999-12-31 18:00 JST" in done.out
    lmk.here("keys", "expire", "bob", "--at", "2999-12-31T18:00+01:00")
    assert rows(lmk)[0]["expires"] == "2999-12-31T17:00:00Z"
    config.write_text("money: {time_zone: Asia/Tokio}\n")
    done = lmk.here("keys", "expire", "bob", "--at", "2999-12-30")
    assert done.code == 2
    assert "Did you mean `Asia/Tokyo`?" in done.err and "2026-12-31T18:00Z" in done.err
    assert "17:00 UTC" in lmk.here("keys", "expire", "bob", "--at", "2999-12-30T17:00Z").out


def test_the_list_of_one_user(lmk):
    for name, user in (("laptop", "bob"), ("ci", "bob"), ("carol", "carol")):
        lmk.here("keys", "new", name, "--user", user)
    assert [row["name"] for row in rows(lmk, "--user", "bob")] == ["laptop", "ci"]
    assert lmk.here("keys", "list", "--user", "dave").out == ""


def _hours(later: str, earlier: str) -> int:
    between = datetime.fromisoformat(later) - datetime.fromisoformat(earlier)
    return round(between.total_seconds() / 3600)


def test_umask_does_not_matter(lmk):
    old = os.umask(0)
    try:
        lmk("keys", "new", "bob")
    finally:
        os.umask(old)
    assert stat.S_IMODE((lmk.home / "llamakey.db").stat().st_mode) == 0o600


def test_a_key_file_of_googles_is_made_with_a_key(lmk):
    path = lmk.folder / "carol.json"
    done = lmk("keys", "new", "carol-vertex", "--user", "carol", "--vertex-file", str(path))
    assert done.code == 0
    key = done.out.strip()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    file = json.loads(path.read_text())
    assert file["token_uri"] == "http://localhost:8000/vertex/token"
    assert file["type"] == "service_account" and "project_id" not in file
    assert key not in path.read_text() and "give it to carol alone" in done.err
    secret = lmk.home / "token.secret"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    # what it signs is this key
    signer = crypt.RSASigner.from_service_account_info(file)
    now = int(time.time())
    claims = {"iss": file["client_email"], "aud": "x", "iat": now, "exp": now + 60}
    token = jwt.encode(signer, claims).decode()
    assert keyfile.read(token, Tokens(lmk.home), now).key_id == key.split("-")[2]


def test_a_key_file_that_cannot_be_written_is_told(lmk):
    done = lmk("keys", "new", "dave", "--vertex-file", str(lmk.folder / "no" / "where.json"))
    assert done.code == 1 and "where.json can't be written" in done.err
    assert LOCAL_KEY.search(done.out)  # the key itself is not lost
