"""Denials in the shapes that the providers document, and what SDKs read in their headers."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from llamakey_addon import catalogue, denial
from llamakey_addon.catalogue.models import Envelope
from llamakey_addon.cutting import Stream
from llamakey_addon.errors import (
    BadRequest,
    Broken,
    Denied,
    Forbidden,
    NotReady,
    Rate,
    Spent,
    TooMany,
    Unauthenticated,
    UnknownRoute,
    UpstreamFault,
    UpstreamTimeout,
)
from llamakey_addon.journey import Answer
from tests.catalogue.providers import every

PROVIDERS = every()
ENVELOPES = catalogue.load().envelopes
ID = "lmk_01J0"
CONTACT = "ops@corp.example"
EVERY_DENIAL = [
    kind("What happened. What to do.") for kind in Denied.__subclasses__() if kind is not Broken
] + [Broken("ValueError in a stage")]


def _answer(denied: Denied, prefix: str | None, contact: str = CONTACT) -> Answer:
    provider = PROVIDERS[prefix] if prefix is not None else None
    return denial.answer(denied, provider, ID, contact, ENVELOPES)


def _fields(answer: Answer) -> dict[str, str]:
    return {name.decode().lower(): value.decode() for name, value in answer.headers}


def _body(denied: Denied, prefix: str) -> Any:
    return json.loads(_answer(denied, prefix).body)


TEXT = f"No key. Send one. Ask {CONTACT}. (LlamaKey request {ID})"

# From the providers' references of errors; each envelope's `docs` in envelopes.yaml names the page.
DOCUMENTED = [
    (
        "openai",
        Unauthenticated,
        {
            "error": {
                "message": TEXT,
                "type": "authentication_error",
                "param": None,
                "code": "invalid_api_key",
            }
        },
    ),
    (
        "anthropic",
        Unauthenticated,
        {
            "type": "error",
            "error": {"type": "authentication_error", "message": TEXT},
            "request_id": ID,
        },
    ),
    (
        "anthropic",
        Forbidden,
        {"type": "error", "error": {"type": "permission_error", "message": TEXT}, "request_id": ID},
    ),
    ("cohere", Unauthenticated, {"id": ID, "message": TEXT}),
    (
        "gemini",
        Forbidden,
        {"error": {"code": 403, "message": TEXT, "status": "PERMISSION_DENIED"}},
    ),
    ("gemini", BadRequest, {"error": {"code": 400, "message": TEXT, "status": "INVALID_ARGUMENT"}}),
    ("azure", Unauthenticated, {"error": {"code": "invalid_api_key", "message": TEXT}}),
    ("huggingface", Unauthenticated, {"error": TEXT}),
    ("vectara", Forbidden, {"messages": [TEXT], "request_id": ID}),
    (
        "mistral",
        Unauthenticated,
        {
            "object": "error",
            "message": TEXT,
            "type": "authentication_error",
            "param": None,
            "code": "invalid_api_key",
            "request_id": ID,
        },
    ),
    (
        "replicate",
        Unauthenticated,
        {"type": "about:blank", "title": "Unauthenticated", "status": 401, "detail": TEXT},
    ),
    (
        "elevenlabs",
        Unauthenticated,
        {
            "detail": {
                "type": "authentication_error",
                "code": "invalid_api_key",
                "status": "invalid_api_key",
                "message": TEXT,
                "request_id": ID,
            }
        },
    ),
    (
        "deepgram",
        Unauthenticated,
        {"err_code": "INVALID_AUTH", "err_msg": TEXT, "request_id": ID},
    ),
    (
        "openrouter",
        Forbidden,
        {
            "error": {
                "code": 403,
                "message": TEXT,
                "metadata": {"error_type": "permission_denied"},
            }
        },
    ),
    ("voyage", Unauthenticated, {"detail": TEXT}),
    ("ollama", Unauthenticated, {"error": TEXT}),
    ("assemblyai", Unauthenticated, {"error": TEXT}),
]


@pytest.mark.parametrize(("prefix", "kind", "body"), DOCUMENTED)
def test_documented_shape(prefix: str, kind: type[Denied], body: dict[str, Any]) -> None:
    denied = kind("No key. Send one.")
    answer = _answer(denied, prefix)
    assert json.loads(answer.body) == body
    assert answer.status == kind.status
    assert _fields(answer)["content-type"] == "application/json"


@pytest.mark.parametrize("prefix", [*PROVIDERS, None])
def test_every_denial_of_every_provider(prefix: str | None) -> None:
    for denied in EVERY_DENIAL:
        answer = _answer(denied, prefix)
        assert answer.status == denied.status and answer.reason
        text = answer.body.decode()
        if prefix is not None:
            text = json.dumps(json.loads(text), ensure_ascii=False)
        assert denied.message in text and CONTACT in text and ID in text
        assert _fields(answer)["x-llamakey-request-id"] == ID


def test_unknown_prefix_is_plain_text() -> None:
    answer = _answer(UnknownRoute("Nobody is here."), None)
    assert answer.body.decode() == f"Nobody is here. Ask {CONTACT}. (LlamaKey request {ID})\n"
    assert _fields(answer)["content-type"] == "text/plain; charset=utf-8"


def test_setting_and_contact() -> None:
    denied = Forbidden("Not allowed.", setting="users.alice.allow", detail="for the log")
    text = _body(denied, "openai")["error"]["message"]
    assert text == (
        f"Not allowed. Setting: users.alice.allow. Ask {CONTACT}. (LlamaKey request {ID})"
    )
    assert b"for the log" not in _answer(denied, "openai").body
    assert "Ask" not in json.loads(_answer(denied, "openai", contact="").body)["error"]["message"]


@pytest.mark.parametrize(
    ("denied", "again"),
    [
        (Unauthenticated("x"), False),
        (Forbidden("x"), False),
        (Broken("x"), False),
        (NotReady("x"), False),
        (TooMany("x"), True),
        (UpstreamFault("x"), True),
        (UpstreamTimeout("x"), UpstreamTimeout.passing),
    ],
)
def test_sdks_are_told_whether_to_try_again(denied: Denied, again: bool) -> None:
    fields = _fields(_answer(denied, "openai"))
    assert fields.get("x-should-retry") == (None if again else "false")


def test_retry_after() -> None:
    assert _fields(_answer(TooMany("x", retry_after_s=7), "openai"))["retry-after"] == "7"


def test_www_authenticate_on_401_alone() -> None:
    assert _fields(_answer(Unauthenticated("x"), "openai"))["www-authenticate"].startswith("Bearer")
    assert "www-authenticate" not in _fields(_answer(Forbidden("x"), "openai"))


@pytest.mark.parametrize(
    "message", ['"quoted" \\ {code} {status} {id}', "line\nfeed\x00\u2028", "</script>é", "{", "}{"]
)
def test_messages_are_escaped_and_not_read_for_placeholders(message: str) -> None:
    for prefix, path in (("openai", ("error", "message")), ("vectara", ("messages", 0))):
        answer = _answer(BadRequest(message), prefix)
        assert answer.body.isascii()
        found = json.loads(answer.body)
        for step in path:
            found = found[step]
        assert found.startswith(message.strip())


def test_placeholders_within_text() -> None:
    shape = Envelope(body={"a": "[{code}/{status}] {message} {unknown} {", "b": ["{status}", 1]})
    denied = BadRequest("Said {code}.")
    answer = denial.answer(denied, None, ID, "", {"plain": shape})
    assert json.loads(answer.body) == {
        "a": f"[invalid_request/400] Said {{code}}. (LlamaKey request {ID}) {{unknown}} {{",
        "b": [400, 1],
    }


def test_types_fall_back_to_their_hundred_and_the_default() -> None:
    shape = Envelope(body={"type": "{type}"}, types={0: "other", 500: "server"})
    for denied, word in ((NotReady("x"), "server"), (BadRequest("x"), "other")):
        answer = denial.answer(denied, None, ID, "", {"plain": shape})
        assert json.loads(answer.body) == {"type": word}


# --- limits, and streams --------------------------------------------------------------------------

RATE = Rate("tokens", limit=60_000, remaining=120, reset_s=3725.25)


def test_a_limit_is_told_as_the_provider_tells_of_its_own() -> None:
    limited = TooMany("x", retry_after_s=3725.25, rate=RATE)
    for prefix in ("openai", "azure", "groq"):
        fields = _fields(_answer(limited, prefix))
        assert fields["x-ratelimit-limit-tokens"] == "60000"
        assert fields["x-ratelimit-remaining-tokens"] == "120"
        assert fields["x-ratelimit-reset-tokens"] == "1h2m5.25s"
        assert (fields["retry-after"], fields["retry-after-ms"]) == ("3726", "3725250")
    fields = _fields(_answer(limited, "anthropic"))
    assert fields["anthropic-ratelimit-tokens-limit"] == "60000"
    assert fields["anthropic-ratelimit-tokens-remaining"] == "120"
    reset = datetime.fromisoformat(fields["anthropic-ratelimit-tokens-reset"])
    assert 3724 <= (reset - datetime.now(UTC)).total_seconds() <= 3728
    assert not [name for name in _fields(_answer(limited, "cohere")) if "ratelimit" in name]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0004, "0.001s"), (1.5, "1.5s"), (60, "1m0s"), (7200, "2h0m0s")]
)
def test_durations_are_openais(seconds: float, text: str) -> None:
    rate = Rate("requests", 1, 0, seconds)
    fields = _fields(_answer(TooMany("x", retry_after_s=seconds, rate=rate), "openai"))
    assert fields["x-ratelimit-reset-requests"] == text


def test_an_error_within_a_stream() -> None:
    spent = Spent("Spent.", setting="users.alice.budgets[0]")
    text = f"Spent. Setting: users.alice.budgets[0]. Ask {CONTACT}. (LlamaKey request {ID})"

    def event(prefix: str, stream: Stream) -> bytes:
        return denial.event(spent, PROVIDERS[prefix], stream, ID, CONTACT, ENVELOPES)

    name, data, *end = event("anthropic", "sse").split(b"\n")
    assert (name, end) == (b"event: error", [b"", b""])
    assert json.loads(data.removeprefix(b"data: ")) == {
        "type": "error",
        "error": {"type": "permission_error", "message": text},
        "request_id": ID,
    }
    data, *end = event("openai", "sse").split(b"\n")
    assert end == [b"", b""]
    assert json.loads(data.removeprefix(b"data: "))["error"]["code"] == "budget_spent"
    # google-genai looks for an error by how a chunk begins
    assert event("gemini", "sse").startswith(b'data: {"error":')
    assert (
        event("ollama", "ndjson")
        == json.dumps({"error": text}, separators=(",", ":")).encode() + b"\n"
    )
