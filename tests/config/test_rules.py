from __future__ import annotations

import textwrap

import pytest

from llamakey_addon.config import Settings
from llamakey_addon.errors import ConfigError
from llamakey_addon.journey import Rule


@pytest.fixture
def load(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def read(text):
        (tmp_path / "config.yaml").write_text(textwrap.dedent(text))
        return Settings.load(None, {"HOME": "/home/me"})

    return read


USERS = """\
users:
  alice:
    allow:
      - providers: [openai, cohere]
        methods: [post, GET]
        paths: [/v1/models/*, chat]
      - providers: [anthropic]
  bob: {}
  carol:
    allow: []
"""


def test_rules(load):
    settings = load(USERS)
    assert settings.policy("alice").allow == (
        Rule(("openai", "cohere"), ("POST", "GET"), ("/v1/models/*", "chat")),
        Rule(("anthropic",)),
    )
    for name, allow, setting in (
        ("bob", None, "users.bob.allow"),
        ("carol", (), "users.carol.allow"),
        ("dave", None, 'users."*".allow'),
    ):
        policy = settings.policy(name)
        assert (policy.allow, policy.allow_setting) == (allow, setting)


def test_everybody_else(load):
    settings = load(USERS + '  "*":\n    allow:\n      - providers: [openai]\n')
    assert settings.policy("dave").allow == (Rule(("openai",)),)
    assert settings.policy("dave").allow_setting == 'users."*".allow'
    assert settings.policy("*").allow == (Rule(("openai",)),)
    assert settings.policy("bob").allow is None


@pytest.mark.parametrize("name", ["Alice", "ALICE", "\uff41lice"])
def test_another_case_does_not_escape_a_whitelist(load, name):
    policy = load(USERS).policy(name)
    assert policy.allow is not None and policy.allow_setting == "users.alice.allow"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("alice: {}\n  Alice: {}", 3, ["one user"]),
        ("alice:", 2, ["`alice: {}`", "allow: []"]),
        ("alice:\n    allow:\n    # - providers: [openai]", 3, ["`allow: []`"]),
        ("alice:\n    allow:\n    - providers:", 4, ["nothing stands here", "Remove `providers`"]),
        ("alice:\n    allow:\n    - methods: []", 4, ["nothing stands here"]),
        ("alice:\n    allow:\n    - {}\n    - paths: []", 5, ["nothing stands here"]),
        ("alice:\n    allow:\n    -", 4, ["`users.alice.allow.0`"]),
        ("alice:\n    allow:\n    - providers: [openai, opanai]", 4, ["Did you mean `openai`?"]),
        ("alice:\n    allow:\n    - providers:\n      - x\n      - qqqqq", 6, ["lmk providers"]),
        ("alice:\n    allow:\n    - methods: [PSOT]", 4, ["Did you mean `POST`?"]),
        ("alice:\n    allow:\n    - methods: [CONNECT]", 4, ["no method", "GET"]),
        ("alice:\n    allow:\n    - paths: ['/v1/a?b']", 4, ["no query"]),
        ("alice:\n    allow:\n    - paths: ['']", 4, ["no query"]),
        ("alice:\n    allow:\n    - {providers: [openai], paths: [chatt]}", 4, ["`chat`"]),
        ("alice:\n    allow:\n    - {providers: [openai], paths: [v1/models]}", 4, ["no endpoint"]),
        ("alice:\n    allow: openai", 3, ["a list is expected"]),
        ("alice: [openai]", 2, ["settings are expected"]),
    ],
)
def test_faults(load, text, line, words):
    with pytest.raises(ConfigError) as caught:
        load(f"users:\n  {text}\n")
    fault = next(f for f in caught.value.faults if all(word in f.message for word in words))
    assert fault.where == f"config.yaml:{line}"


@pytest.mark.parametrize(
    ("rule", "meant"),
    [
        ("{providers: [openai], paths: [/openai/v1/models]}", "/v1/models"),
        ("{providers: [anthropic], paths: [/anthropic/**]}", "/**"),
        ("{paths: [/cohere/v2/chat]}", "/v2/chat"),
        ("{providers: [groq], paths: [/openai/v1/chat/completions]}", None),
        ("{providers: [openai], paths: [/v1/**]}", None),
        ("{providers: [openai], paths: ['*', '**', '/**']}", None),
        ("{providers: [openai], paths: ['chat*']}", None),
    ],
)
def test_a_prefix_in_a_path_is_warned_of(load, rule, meant):
    settings = load(f"users:\n  alice:\n    allow:\n    - {rule}\n")
    if meant is None:
        assert settings.warnings == ()
    else:
        (warning,) = settings.warnings
        assert warning.where == "config.yaml:4" and f"`{meant}`" in warning.message


def test_rules_name_providers_of_ones_own(load):
    load(
        """\
        providers:
          mine: {upstream: 'https://a', like: openai}
        users:
          alice: {allow: [{providers: [mine], paths: [chat]}]}
        """
    )
