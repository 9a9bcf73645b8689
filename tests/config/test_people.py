from __future__ import annotations

import textwrap

import pytest

from llamakey_addon.config import Settings
from llamakey_addon.errors import ConfigError
from llamakey_addon.journey import Cap, Rule


@pytest.fixture
def load(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def read(text):
        (tmp_path / "config.yaml").write_text(textwrap.dedent(text))
        return Settings.load(None, {"HOME": "/home/me"})

    return read


PEOPLE = """\
everybody:
  limits: [{concurrent: 200}]
teams:
  research:
    allow: [{providers: [openai]}]
    deny: [{models: [o1-pro*]}]
    limits: [{requests: 600, per: minute, each: [user, model]}]
    budgets: [{spend: 200, per: month}]
    share: true
    body_bytes: 4096
  ops: {}
users:
  alice:
    team: research
    allow: [{providers: [cohere]}]
    deny: [{methods: [DELETE]}]
    budgets:
      - {spend: 5.5, per: day, hard: false, warn_at: [50, 80], models: [gpt-5*], tags: [ci-*]}
    body_bytes: 65536
  Bob: {team: research}
  carol: {team: ops, limits: [{tokens: 1000, per: hour}]}
  "*":
    allow: []
    limits: [{requests: 2, per: second}]
"""


def test_a_member_has_what_the_team_has(load):
    settings = load(PEOPLE)
    alice = settings.policy("alice")
    assert alice.allow == (Rule(("cohere",)), Rule(("openai",)))
    assert [rule.setting for rule in alice.allow] == [
        "users.alice.allow[0]",
        "teams.research.allow[0]",
    ]
    assert alice.deny == (Rule(methods=("DELETE",)), Rule(models=("o1-pro*",)))
    assert (alice.team, alice.shared, alice.allow_setting) == (
        "research",
        True,
        "users.alice.allow",
    )
    assert (alice.body_bytes, alice.body_setting) == (4096, "teams.research.body_bytes")
    assert alice.caps == (
        Cap(
            "users.alice.budgets[0]",
            ("user", "alice"),
            "nusd",
            5_500_000_000,
            "day",
            Rule(models=("gpt-5*",)),
            ("ci-*",),
            hard=False,
            warn_at=(50, 80),
        ),
        Cap(
            "teams.research.limits[0]",
            ("team", "research"),
            "requests",
            600,
            "minute",
            each=("user", "model"),
        ),
        Cap("teams.research.budgets[0]", ("team", "research"), "nusd", 200 * 10**9, "month"),
    )


def test_a_member_without_a_whitelist_has_the_teams(load):
    bob = load(PEOPLE).policy("bob")
    assert bob.allow == (Rule(("openai",)),)
    assert bob.allow_setting == "teams.research.allow"


def test_a_team_without_a_whitelist_leaves_its_members_free(load):
    carol = load(PEOPLE).policy("carol")
    assert (carol.allow, carol.team, carol.shared) == (None, "ops", False)
    assert carol.caps == (Cap("users.carol.limits[0]", ("user", "carol"), "tokens", 1000, "hour"),)


def test_those_who_are_not_named_are_counted_each_by_themself(load):
    settings = load(PEOPLE)
    for name, subject in (("dave", "dave"), ("DAVE", "dave"), ("erin", "erin")):
        policy = settings.policy(name)
        assert policy.allow == () and policy.team == ""
        assert policy.caps == (
            Cap('users."*".limits[0]', ("user", subject), "requests", 2, "second"),
        )


def test_teams_and_everybody(load):
    settings = load(PEOPLE)
    assert settings.everybody == (Cap("everybody.limits[0]", ("everybody", ""), "concurrent", 200),)
    assert {name: team.members for name, team in settings.teams.items()} == {
        "research": ("alice", "Bob"),
        "ops": ("carol",),
    }
    assert settings.teams["research"].policy.allow == (Rule(("openai",)),)


def test_an_empty_whitelist_beside_the_teams_is_warned_of(load):
    settings = load("teams: {t: {allow: [{}]}}\nusers: {a: {team: t, allow: []}}\n")
    (warning,) = settings.warnings
    assert "deny: [{}]" in warning.message


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("users:\n  alice:\n    team: reserch", 3, ["no team", "Did you mean `research`?"]),
        ("users:\n  alice:\n    team:", 3, ["Name a team"]),
        ("users:\n  alice:\n    share: true", 3, ["a list is expected"]),
        ("users:\n  alice:\n    share: [bob, ' x']", 3, ["no user has such a name"]),
        ("teams:\n  b:", 2, ["`b: {}`"]),
        ("teams:\n  b:\n    team: x", 3, ["unknown setting `team`"]),
        ("teams:\n  ' b': {}", 2, ["visible characters"]),
        ("teams:\n  b:\n    allow:\n    # - {}", 3, ["`allow: []`"]),
        ("users:\n  a:\n    deny:", 3, ["a list is expected"]),
        ("users:\n  a:\n    deny:\n    - providers: [opanai]", 4, ["Did you mean `openai`?"]),
        ("users:\n  a:\n    deny:\n    - {providers: [openai], paths: [chta]}", 4, ["`chat`"]),
        ("users:\n  a:\n    allow:\n    - models: []", 4, ["Remove `models`"]),
        ("users:\n  a:\n    allow:\n    - models: [' gpt']", 4, ["no spaces"]),
        ("users:\n  a:\n    allow:\n    - models: ['']", 4, ["no spaces"]),
        (
            "users:\n  a:\n    limits:\n    - {requests: 1, tokens: 2, per: day}",
            4,
            ["`requests` and `tokens` stand in one limit"],
        ),
        ("users:\n  a:\n    limits:\n    - {per: day}", 4, ["no unit"]),
        ("users:\n  a:\n    limits:\n    - {requests: 1}", 4, ["`per`", "per: minute"]),
        ("users:\n  a:\n    limits:\n    - {concurrent: 1, per: day}", 4, ["Remove `per`"]),
        ("users:\n  a:\n    limits:\n    - {requests: 1, per: minut}", 4, ["`minute`"]),
        ("users:\n  a:\n    limits:\n    - {requests: 1, per: total}", 4, ["no word"]),
        ("users:\n  a:\n    limits:\n    - {requests: -1, per: day}", 4, ["greater than"]),
        ("users:\n  a:\n    limits:\n    - {requests: 1.5, per: day}", 4, ["whole number"]),
        ("users:\n  a:\n    limits:\n    - {tokens: 1, per: day, each: [usr]}", 4, ["`user`"]),
        ("users:\n  a:\n    limits:\n    - {tokens: 1, per: day, each: []}", 4, ["Remove `each`"]),
        ("users:\n  a:\n    limits:\n    - {tokens: 1, per: day, tags: ['']}", 4, ["a tag"]),
        (
            "users:\n  a:\n    limits:\n    - {tokens: 1, per: day, methods: [GET]}",
            4,
            ["`methods`"],
        ),
        ("users:\n  a:\n    budgets:\n    - {spend: 5}", 4, ["per` is missing"]),
        ("users:\n  a:\n    budgets:\n    - {spend: 5, per: hour}", 4, ["no word"]),
        ("users:\n  a:\n    budgets:\n    - {per: day}", 4, ["spend` is missing"]),
        ("users:\n  a:\n    budgets:\n    - {spend: -5, per: day}", 4, ["greater than"]),
        ("users:\n  a:\n    budgets:\n    - {spend: .nan, per: day}", 4, ["finite"]),
        (
            "users:\n  a:\n    budgets:\n    - {spend: 5, per: day, warn_at: [90, 80]}",
            4,
            ["rising"],
        ),
        ("everybody:\n  limits:\n  - {requests: 1}", 3, ["Add `per`"]),
        ("everybody:\n  allow: []", 2, ["unknown setting `allow`"]),
        ("isolation:\n  unowned: denied", 2, ["Did you mean `deny`?"]),
    ],
)
def test_faults(load, text, line, words):
    with pytest.raises(ConfigError) as caught:
        load(f"{text}\n" if text.startswith("teams") else f"{text}\nteams:\n  research: {{}}\n")
    messages = [fault.message for fault in caught.value.faults]
    fault = next((f for f in caught.value.faults if all(word in f.message for word in words)), None)
    assert fault is not None, messages
    assert fault.where == f"config.yaml:{line}", messages


def test_all_faults_are_told_at_once(load):
    with pytest.raises(ConfigError) as caught:
        load(
            """\
            teams:
              t: {limits: [{requests: 1}]}
            users:
              a: {team: u, deny: [{providers: [x]}]}
            money: {currency: EUR, time_zone: Nowhere/Else}
            prices: [{provider: y}]
            """
        )
    assert [fault.where for fault in caught.value.faults] == [
        f"config.yaml:{line}" for line in (2, 4, 4, 5, 5, 6, 6)
    ]


# --- scopes of keys -------------------------------------------------------------------------------


def test_a_scope_is_read_like_a_users_part(load):
    settings = load("")
    text = (
        '{"allow": [{"providers": ["openai"], "models": ["gpt-5*"]}],'
        ' "deny": [{"paths": ["files"]}], "limits": [{"concurrent": 2}],'
        ' "budgets": [{"spend": 1, "per": "total"}]}'
    )
    scope = settings.scope(text, "abcdefghij")
    assert scope.allow == (Rule(("openai",), models=("gpt-5*",)),)
    assert scope.deny == (Rule(paths=("files",)),)
    assert scope.caps == (
        Cap("scope of key abcdefghij: limits[0]", ("key", "abcdefghij"), "concurrent", 2),
        Cap("scope of key abcdefghij: budgets[0]", ("key", "abcdefghij"), "nusd", 10**9, "total"),
    )
    assert scope.allow_setting == "scope of key abcdefghij: allow"
    assert settings.scope(text, "abcdefghij") is scope
    assert settings.check_scope(text, "abcdefghij") == scope


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"allow": [], "allow": null}', "stands here again"),
        ('{"team": "x"}', "unknown setting `team`"),
        ('{"limits": [{"requests": "1", "per": "day"}]}', "a whole number is expected"),
        ("[]", "settings are expected"),
        ('{"allow": [', "not YAML"),
    ],
)
def test_a_scope_of_another_shape_is_none(load, text, words):
    settings = load("")
    with pytest.raises(ConfigError, match=words):
        settings.scope(text, "abcdefghij")


def test_a_scope_outlives_a_provider_but_is_not_made_with_an_unknown_one(load):
    settings = load("")
    text = '{"allow": [{"providers": ["opanai"]}]}'
    assert settings.scope(text, "abcdefghij").allow == (Rule(("opanai",)),)
    with pytest.raises(ConfigError, match=r"scope of key abcdefghij:1: .*Did you mean `openai`"):
        settings.check_scope(text, "abcdefghij")
