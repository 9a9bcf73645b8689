"""`lmk doctor --keys`: what providers say of the real keys, and what of it is shown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import yaml

from llamakey_addon import catalogue
from llamakey_addon.cli import doctor_keys
from llamakey_addon.cli.doctor_keys import State, judge
from llamakey_addon.config import Settings
from llamakey_addon.credentials import Reply
from tests import canary, harness
from tests.cli.command import Done
from tests.fakes import World, wire
from tests.fakes.families import FAMILIES
from tests.fakes.wire import json_reply


@pytest.mark.parametrize(
    ("status", "body", "state"),
    [
        (200, b"{}", "ok"),
        (422, b"{}", "ok"),
        (401, b"{}", "wrong"),
        (400, b'{"error": "Incorrect API key."}', "wrong"),
        (400, b'{"error": {"message": "API key expired. Please renew the API key."}}', "expired"),
        (401, b'{"error": {"message": "Your token has expired"}}', "expired"),
        (403, b'{"error": "no access to this"}', "forbidden"),
        (402, b"{}", "used up"),
        (429, b'{"error": {"code": "insufficient_quota"}}', "used up"),
        (429, b'{"error": {"code": "rate_limit_exceeded"}}', "limited"),
        (400, b'{"error": "no such field"}', "failing"),
        (404, b"{}", "failing"),
        (503, b"expired", "failing"),
    ],
)
def test_what_an_answer_says(status: int, body: bytes, state: State) -> None:
    assert judge(status, body, (422,)) == state


@contextmanager
def forced(world: World, **replies: tuple[str, wire.Reply]) -> Iterator[None]:
    for family, (path, reply) in replies.items():
        world.force(family, path, reply)
    try:
        yield
    finally:
        for family, (path, _) in replies.items():
            world.force(family, path, None)


def doctor(lmk, world: World, *arguments: str, **env: str) -> Done:
    config = harness.base_config(world, 8000)
    config["providers"]["mistral"]["upstream"] = f"https://localhost:{harness.free_port()}"
    (lmk.folder / "config.yaml").write_text(yaml.safe_dump(config))
    home = lmk.folder.parent
    environ = harness._environment(world, home, home / "data", env)
    return lmk.here("doctor", "--keys", *arguments, env=environ)


def test_each_key_is_tried_at_its_own_provider(lmk, world: World) -> None:
    limited = json_reply({"error": {"message": "Rate limit reached"}}, 429)
    expired = json_reply({"error": {"message": "API key expired. Please renew the API key."}}, 400)
    spent = json_reply({"error": {"code": "insufficient_quota"}}, 429)
    since = world.mark()
    with forced(
        world,
        groq=("/openai/v1/models", limited),
        gemini=("/v1beta/models", expired),
        deepseek=("/models", spent),
    ):
        done = doctor(lmk, world, "--json", ANTHROPIC_API_KEY="sk-ant-of-yesterday-0123456789")
    assert done.code == 1, done.err
    states = {each["provider"]: each["state"] for each in json.loads(done.out)["keys"]}
    told = {each["provider"]: each["told"] for each in json.loads(done.out)["keys"]}
    bad = {id: state for id, state in states.items() if state not in ("ok", "untested")}
    assert bad == {
        "anthropic": "wrong",
        "groq": "limited",
        "gemini": "expired",
        "deepseek": "used up",
        "mistral": "unreachable",
    }
    assert "env:ANTHROPIC_API_KEY" in told["anthropic"]
    # all that have a check, and only they, were asked: once, with their own key
    seen = world.requests(since=since)
    entries = catalogue.load().entries
    asked = {id for id in FAMILIES if id in entries and entries[id].check is not None}
    families = [r.family for r in seen if r.family in entries]
    assert sorted(families) == sorted(asked - {"mistral"})
    assert {r.family for r in seen if r.credential != "real"} <= {"anthropic", "google-oauth"}
    assert {id for id in asked if states[id] == "ok"} == asked - bad.keys()
    assert canary.find(f"{done.out}{done.err}".encode(), world.keys.values()) == []


def test_good_keys_and_a_table(lmk, world: World) -> None:
    env = {harness.key_variable(id): "" for id in FAMILIES if id != "openai"}
    done = doctor(lmk, world, **env, AWS_ACCESS_KEY_ID="", LAUNCH="")
    assert done.code in (0, 1)
    [line] = [line for line in done.out.splitlines() if line.startswith("openai ")]
    assert line.split()[-1] == "ok"
    assert "anthropic" not in done.out
    assert canary.find(done.out.encode(), world.keys.values()) == []


def test_without_real_keys_it_says_so(lmk) -> None:
    done = lmk.here("doctor", "--keys")
    assert done.code == 0
    assert "No real key is set here" in done.out


def test_a_key_is_tried_at_the_host_that_answers_for_nothing(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings.load(None, {"HOME": str(tmp_path), "FAL_KEY": "id:secret-of-fal-0123456"})
    asked = []

    def ask(method: str, url: str, headers, body, *, ca: str) -> Reply:
        asked.append((method, url, headers["Host"], headers["Authorization"]))
        return Reply(401, {}, b'{"detail": "Invalid key"}')

    assert doctor_keys.test(settings.providers["fal"], ask).state == "wrong"
    [(method, url, host, key)] = asked
    assert (method, host) == ("GET", "api.fal.ai")
    assert url == "https://api.fal.ai/v1/models/pricing?endpoint_id=fal-ai/flux/dev"
    assert key == "Key id:secret-of-fal-0123456"


def test_providers_with_a_key_have_a_check_or_are_named_here() -> None:
    without = {id for id, entry in catalogue.load().entries.items() if entry.check is None}
    assert without == {
        # the account's key is the same as of another entry that has one
        *("assemblyai-dictation", "assemblyai-llm", "assemblyai-streaming", "assemblyai-sync"),
        *("assemblyai-tts", "bedrock", "deepgram-agent", "hfendpoints"),
        # a server of the owner's own
        *("hfendpoint", "ollama"),
        # a token is made, which proves what it is made of
        "vertex",
    }
