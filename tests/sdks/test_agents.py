"""Claude Code and Codex, as npm has them, by `lmk run` and nothing else, where no other host is.

See `alone.py` for the place in which they run.
"""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from tests.fakes.families.openai import TEXT
from tests.sdks import alone
from tests.starts import ROOT

pytestmark = [pytest.mark.sdk, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def alone_(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("alone")
    command = alone.command(folder)
    if not command:
        pytest.skip("no network namespace: wants root, or user namespaces, and unshare and ip")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("id", alone.RUNS)
def test_agent(alone_: dict[str, Any], id: str) -> None:
    ran = alone_["runs"].get(id)
    assert ran is not None, f"{id} is not installed in .sdks/node"
    assert ran["code"] == 0, ran["err"]
    assert ran["seen"], "nothing went by the proxy"
    assert {request["credential"] for request in ran["seen"]} == {"real"}
    assert ran["strays"] == [], "it asked for other hosts"
    assert ran["home"] == [], "the user's own settings were changed"
    # the session that it tells of is the tag of each request
    told = {
        request["headers"].get("x-claude-code-session-id") or request["headers"].get("session-id")
        for request in ran["seen"]
    }
    assert None not in told
    assert len(told) == 1
    assert {row["tag"] for row in ran["rows"]} == told
    assert len(ran["rows"]) == len(ran["seen"])


def test_claude_code(alone_: dict[str, Any]) -> None:
    ran = alone_["runs"]["claude"]
    assert ran["out"].strip() == TEXT
    for request in ran["seen"]:
        assert request["headers"]["anthropic-version"] == "2023-06-01"
        assert request["headers"]["anthropic-beta"].startswith("claude-code-")
    assert {row["endpoint"] for row in ran["rows"]} == {"messages"}


def test_claude_code_counts_tokens(alone_: dict[str, Any]) -> None:
    ran = alone_["runs"]["claude-context"]
    assert "Context Usage" in ran["out"]
    assert {request["target"] for request in ran["seen"]} == {"/v1/messages/count_tokens?beta=true"}
    assert {request["status"] for request in ran["seen"]} == {200}
    assert {row["endpoint"] for row in ran["rows"]} == {"messages.count-tokens"}


def test_codex_by_websocket_and_by_events(alone_: dict[str, Any]) -> None:
    socket, events = alone_["runs"]["codex"], alone_["runs"]["codex-sse"]
    assert TEXT in socket["out"]
    assert TEXT in events["out"]
    assert {(r["method"], r["target"], r["status"]) for r in socket["seen"]} == {
        ("GET", "/v1/responses", 101)
    }
    assert {(r["method"], r["target"], r["status"]) for r in events["seen"]} == {
        ("POST", "/v1/responses", 200)
    }
    # its user's own choice of a model has come along
    assert {row["model"] for row in (*socket["rows"], *events["rows"])} == {"gpt-6.2-sol"}


def test_doctor_proves_it(alone_: dict[str, Any]) -> None:
    ran = alone_["doctor"]
    assert ran["code"] == 0, ran["err"]
    found = {each["client"]: each for each in json.loads(ran["out"])["clients"]}
    assert {name: each["state"] for name, each in found.items()} == {
        "Claude Code": "through",
        "Codex CLI": "through",
    }
    assert all(each["request"].startswith("lmk_") for each in found.values())
    assert ran["strays"] == []


def test_nobody_saw_a_key_that_is_not_theirs(alone_: dict[str, Any]) -> None:
    assert alone_["violations"] == []
    assert alone_["leaks"] == []
