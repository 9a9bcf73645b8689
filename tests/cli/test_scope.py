from __future__ import annotations

import json

import pytest

from llamakey_addon.cli.scope import BadScope, Wishes, shown, written
from llamakey_addon.config import Settings


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "config.yaml"
    path.write_text("")
    return Settings.load(path, {"HOME": str(path.parent)})


CASES = [
    (
        {"allow": ["openai,anthropic"]},
        {"allow": [{"providers": ["openai", "anthropic"]}]},
        "openai,anthropic",
    ),
    (
        {"allow": ["openai", "azure/chat:gpt-5*"]},
        {
            "allow": [
                {"providers": ["openai"]},
                {"providers": ["azure"], "paths": ["chat"], "models": ["gpt-5*"]},
            ]
        },
        "openai; azure/chat:gpt-5*",
    ),
    (
        {"models": ["gpt-5*,claude-*"]},
        {"allow": [{"models": ["gpt-5*", "claude-*"]}]},
        ":gpt-5*,claude-*",
    ),
    (
        {"allow": ["openai,azure:o3*"], "models": ["gpt-5*"]},
        {
            "allow": [
                {"models": ["gpt-5*"], "providers": ["openai"]},
                {"models": ["o3*"], "providers": ["azure"]},
            ]
        },
        "openai:gpt-5*; azure:o3*",
    ),
    (
        {"deny": ["openai/files", ":ft:gpt-4o:*"]},
        {
            "deny": [
                {"providers": ["openai"], "paths": ["files"]},
                {"models": ["ft:gpt-4o:*"]},
            ]
        },
        "not openai/files; not :ft:gpt-4o:*",
    ),
    (
        {"limits": ["60/minute", "1.5M tokens/day,4 at once", "10 requests per s"]},
        {
            "limits": [
                {"requests": 60, "per": "minute"},
                {"tokens": 1500000, "per": "day"},
                {"concurrent": 4},
                {"requests": 10, "per": "second"},
            ]
        },
        "60/minute; 1.5M tokens/day; 4 at once; 10/second",
    ),
    (
        {"budgets": ["5/day", "99.5/month soft", "50"]},
        {
            "budgets": [
                {"spend": 5, "per": "day"},
                {"spend": 99.5, "per": "month", "hard": False},
                {"spend": 50, "per": "total"},
            ]
        },
        "spend 5/day; spend 99.5/month soft; spend 50",
    ),
    ({}, None, ""),
]


@pytest.mark.parametrize(("wishes", "part", "words"), CASES)
def test_words_become_a_users_part(settings, wishes, part, words):
    text = written(Wishes(**wishes))
    assert (json.loads(text) if text else None) == part
    if text:
        settings.check_scope(text, "abcdefghij")
    assert shown(text) == words


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        ({"allow": ["openai/"]}, "--allow: 'openai/'"),
        ({"allow": ["openai:"]}, "'openai:gpt-5*'"),
        ({"deny": ["/chat"]}, "--deny: '/chat'"),
        ({"limits": ["60"]}, "60/minute"),
        ({"limits": ["0/minute"]}, "--limit: '0/minute'"),
        ({"limits": ["60/total"]}, "by second, minute"),
        ({"limits": ["60/fortnight"]}, "--limit"),
        ({"limits": ["100 tokens at once"]}, "--limit"),
        ({"budgets": ["5/hour"]}, "5/day, 20/week"),
        ({"budgets": ["$5"]}, "--budget: '$5'"),
        ({"budgets": ["-5/day"]}, "--budget"),
    ],
)
def test_what_cannot_be_read_says_how_it_is_written(wishes, said):
    with pytest.raises(BadScope) as caught:
        written(Wishes(**wishes))
    assert said in str(caught.value)


def test_a_file_says_all_of_it(tmp_path):
    path = tmp_path / "scope.yaml"
    path.write_text("allow: [{methods: [GET]}]\n")
    assert written(Wishes(file=path)) == path.read_text()
    with pytest.raises(BadScope, match="says all of it"):
        written(Wishes(file=path, budgets=["5/day"]))


def test_a_file_that_cannot_be_read_is_told(tmp_path):
    path = tmp_path / "scope.yaml"
    with pytest.raises(BadScope, match="No such file"):
        written(Wishes(file=path))
    for content, said in ((b"", "nothing stands there"), (b"\xff\xfe", "no text")):
        path.write_bytes(content)
        with pytest.raises(BadScope, match=said):
            written(Wishes(file=path))
    path.write_bytes(b"#" * (2 << 20))
    with pytest.raises(BadScope, match="1 MiB"):
        written(Wishes(file=path))


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"allow": []}, "nothing"),
        ({"allow": [{}]}, "everything"),
        ({"allow": [{"methods": ["GET"], "paths": ["/v1/files/**"]}]}, "GET /v1/files/**"),
        ([], "(unreadable)"),
        ({"limits": [{}]}, "(unreadable)"),
    ],
)
def test_other_scopes_in_words(part, words):
    assert shown(json.dumps(part)) == words
