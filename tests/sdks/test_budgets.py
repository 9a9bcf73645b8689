"""Budgets as official SDKs see them: a stream that is ended raises, and the next call tells why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Start
from tests.fakes import World
from tests.sdks.run import Run
from tests.sdks.runner import execute
from tests.sdks.test_sdks import sourced

RUN = Run("spent", "spent_python.py", ("openai",), {}, {})
#: A token out is a tenth of a cent, so the third of four is one too many.
CONFIG = {
    "prices": [{"provider": "*", "model": "*", "output_mtok": 1000}],
    "everybody": {"budgets": [{"spend": 0.0021, "per": "total", "each": ["provider", "model"]}]},
    "providers": {"ollama": {"enabled": True}},
}
#: Of each stream the third word is among these, and its end is not.
CHUNKS = {"chat": 5, "responses": 8, "messages": 6, "groq": 5, "ollama": 4, "genai": 3}
ENDED = {
    "openai_chat": "APIError",
    "openai_responses": "APIError",
    "anthropic_messages": "APIStatusError",
    "groq_chat": "APIError",
    "ollama_chat": "ResponseError",
    "genai_content": "APIError",
}
REFUSED = {
    "openai_chat_then": "PermissionDeniedError",
    "anthropic_messages_then": "PermissionDeniedError",
    "ollama_chat_then": "ResponseError",
    "genai_content_then": "ClientError",
    "cohere_chat_then": "ForbiddenError",
}


@pytest.fixture(scope="module")
def told(
    _shared: Start, world: World, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """What each call came to."""
    proxy = _shared(config=CONFIG)
    env = sourced(proxy.folder / "llamakey_local.env")
    world.forbid(env["OPENAI_API_KEY"])
    proxy.keys.append(env["OPENAI_API_KEY"])
    for name, chunks in CHUNKS.items():
        world.gate(f"spent-{name}").release(chunks)
    home: Path = tmp_path_factory.mktemp("home")
    return execute(RUN, env, (), home, denied="", limited="").surfaces


@pytest.mark.sdk
@pytest.mark.parametrize("name", ENDED)
def test_a_stream_that_is_ended_raises(told: dict[str, dict[str, Any]], name: str) -> None:
    outcome = told[name]
    assert ENDED[name] in outcome.get("kinds", ()), outcome
    assert "has used up the budget" in outcome["text"]


@pytest.mark.sdk
@pytest.mark.parametrize("name", REFUSED)
def test_the_next_call_is_refused_once(told: dict[str, dict[str, Any]], name: str) -> None:
    outcome = told[name]
    assert REFUSED[name] in outcome.get("kinds", ()), outcome
    assert "is spent" in outcome["text"] and "everybody.budgets[0]" in outcome["text"]
