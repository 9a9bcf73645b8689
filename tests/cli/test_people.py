"""`lmk users` and `lmk teams`: who there is, and what is left for them."""

from __future__ import annotations

import json
import re
import time

import pytest

from llamakey_addon.cli import when
from llamakey_addon.store import open_store
from tests.cli.books import fill, make_key
from tests.cli.command import ANSI

CONFIG = """\
money: {currency: EUR, per_usd: 0.5, time_zone: Europe/Berlin}
teams:
  research:
    allow: [{providers: [openai, anthropic]}]
    budgets: [{spend: 40, per: month}, {spend: 1, per: total, each: [user]}]
    share: true
  platform: {}
users:
  alice:
    team: research
    deny: [{providers: [openai], paths: [files]}]
    limits: [{requests: 60, per: minute}, {tokens: 1500000, per: day, models: ["gpt-5*"]}]
    budgets: [{spend: 5, per: total}, {spend: 1, per: day, each: [model], hard: false}]
    body_bytes: 2048
    share: [Bob, carol]
  Bob: {team: research}
  "*": {allow: [{methods: [GET]}], budgets: [{spend: 1, per: total}]}
"""


@pytest.fixture
def team(lmk):
    """alice and Bob with keys, carol whom config.yaml does not name, and what they spent."""
    (lmk.folder / "config.yaml").write_text(CONFIG)
    now_s = time.time()
    laptop = make_key(lmk.home, "alice-laptop", "alice")
    make_key(lmk.home, "alice-agent", "alice", expires_s=1.0)
    for name in ("bob", "carol"):
        make_key(lmk.home, name, name)
    with open_store(lmk.home) as store:
        store.used(laptop, now_s - 7200)
    now = when.iso(now_s).rstrip("Z")
    fill(
        lmk.home,
        {"when": now, "cents": 60, "input": 900},
        {"when": now, "cents": 40, "input": 600, "model": "o3"},
        {"when": now, "cents": 300, "user": "bob"},
        {"when": now, "cents": 50, "user": "carol", "team": ""},
    )
    return lmk


def asked(lmk, *arguments: str):
    done = lmk.here(*arguments, "--json")
    assert done.code == 0, done.err
    return json.loads(done.out)


def test_users_are_those_of_the_config_and_of_keys(team):
    people = {each["name"]: each for each in asked(team, "users")}
    assert list(people) == ["alice", "Bob", "carol", "*"]
    assert [each["team"] for each in people.values()] == ["research", "research", None, None]
    assert [each["in_config"] for each in people.values()] == [True, True, False, True]
    assert [[key["state"] for key in each["keys"]] for each in people.values()] == [
        ["valid", "expired"],
        ["valid"],
        ["valid"],
        [],
    ]
    assert people["alice"]["last_used"].startswith("20")
    assert people["Bob"]["last_used"] is None
    assert people["carol"]["allow"] == [{"methods": ["GET"]}]


def test_what_holds_for_a_user_and_what_is_left(team):
    alice = asked(team, "users", "ALICE")
    assert alice["allow"] == [{"providers": ["openai", "anthropic"]}]
    assert alice["deny"] == [{"providers": ["openai"], "paths": ["files"]}]
    assert alice["body_bytes"] == 2048
    assert alice["share"] == ["bob", "carol"]
    assert [(each["per"], each["used"], each["left"]) for each in alice["limits"]] == [
        ("minute", 2, 58),
        ("day", 900, 1499100),
    ]
    budgets = {each["setting"]: each for each in alice["budgets"]}
    own = budgets["users.alice.budgets[0]"]
    assert (own["spend"], own["used"], own["left"], own["renews"]) == (5.0, 0.5, 4.5, None)
    apart = budgets["users.alice.budgets[1]"]
    assert (apart["each"], apart["hard"], "used" in apart) == (["model"], False, False)
    whole = budgets["teams.research.budgets[0]"]
    assert (whole["used"], whole["left"]) == (2.0, 38.0), "of all members together"
    assert whole["renews"].endswith((" 00:00 CET", " 00:00 CEST"))
    each = budgets["teams.research.budgets[1]"]
    assert (each["used"], each["left"]) == (0.5, 0.5)
    assert asked(team, "users", "carol")["budgets"][0]["used"] == 0.25
    assert "used" not in asked(team, "users", "*")["budgets"][0]


def test_the_list_in_short(team):
    done = team.here("users")
    lines = done.out.splitlines()
    assert lines[0].split()[:5] == ["User", "Team", "Keys", "Used", "May"]
    assert lines[1].startswith("alice  research     1  2h ago  openai,anthropic; not openai/files")
    assert "60/minute; 1.5M tokens/day (:gpt-5*)" in lines[1]
    assert "0.50 of 5.00 in all; 1.00/day soft per model; 0.50 of 1.00 in all per user" in lines[1]
    assert "40.00" not in lines[1], "the team's, told by `lmk teams`"
    assert lines[2].startswith("Bob    research     1  never   openai,anthropic")
    assert lines[2].endswith("1.50 of 1.00 in all per user")
    assert lines[4].split()[:3] == ["*", "-", "-"]


def test_one_user_at_length(team):
    lines = team.here("users", "alice").out.splitlines()
    assert lines[:5] == [
        "alice",
        "  team     research",
        "  may      openai,anthropic; not openai/files",
        "  bodies   up to 2048 bytes",
        "  shares   what they made, with bob, carol",
    ]
    assert any(line.startswith("EUR 5.00 in all") and "0.50" in line for line in lines)
    assert any(line.startswith("alice-laptop  ") and "2h ago" in line for line in lines)
    assert any(line.startswith("alice-agent  ") and "expired" in line for line in lines)


def test_bounds_of_keys_are_told_with_their_user(team):
    scope = '{"budgets": [{"spend": 2, "per": "day"}]}'
    key_id = make_key(team.home, "dave-ci", "dave", scope=scope)
    fill(
        team.home,
        {"when": when.iso(time.time()).rstrip("Z"), "cents": 50, "user": "dave", "key_id": key_id},
    )
    [key] = asked(team, "users", "dave")["keys"]
    assert (key["budgets"][0]["used"], key["budgets"][0]["left"]) == (0.25, 1.75)
    out = team.here("users", "dave").out
    assert re.search(rf"^EUR 2.00/day +0.25 +1.75 .*scope of key {key_id}", out, re.MULTILINE)


def test_teams(team):
    found = {each["name"]: each for each in asked(team, "teams")}
    assert {name: each["members"] for name, each in found.items()} == {
        "platform": [],
        "research": ["alice", "Bob"],
    }
    research = found["research"]
    assert (research["share"], research["budgets"][0]["used"]) == (True, 2.0)
    assert "used" not in research["budgets"][1], "apart for each user"
    assert asked(team, "teams", "research") == research
    lines = team.here("teams").out.splitlines()
    assert lines[1].split()[:3] == ["platform", "-", "everything"]
    assert lines[2].endswith("2.00 of 40.00/month; 1.00 in all per user")
    lines = team.here("teams", "research").out.splitlines()
    assert lines[0] == "research"
    assert "  share    members see what others of it made" in lines


def test_members_by_the_rule_for_everybody_else(lmk):
    (lmk.folder / "config.yaml").write_text('teams: {all: {}}\nusers: {"*": {team: all}}\n')
    make_key(lmk.home, "carol", "carol")
    assert asked(lmk, "teams")[0]["members"] == ["carol"]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("users", "alise"), "Did you mean alice? `lmk users` lists them"),
        (("teams", "reserch"), "Did you mean research? `lmk teams` lists them"),
    ],
)
def test_who_is_not_known_is_told(team, command, said):
    done = team.here(*command)
    assert (done.code, done.out) == (1, "")
    assert said in done.err


def test_where_there_is_nobody_it_says_how_to_begin(lmk):
    for command, said in (("users", "lmk keys new NAME"), ("teams", "config.yaml")):
        done = lmk.here(command)
        assert (done.code, done.out) == (0, "")
        assert said in done.err
        assert asked(lmk, command) == []


@pytest.mark.parametrize("columns", [50, 80, 120])
def test_the_tables_fit_the_terminal(team, columns):
    for command in (("users",), ("teams",), ("users", "alice")):
        done = team.on_terminal(*command, columns=columns)
        lines = [line.rstrip() for line in ANSI.sub("", done.out).splitlines()]
        assert max(map(len, lines)) <= columns, command
        assert "Traceback" not in done.out
