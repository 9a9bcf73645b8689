"""Denials in the shapes that the providers document, and what SDKs read in their headers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llamakey_addon import catalogue, denial
from llamakey_addon.catalogue.models import Envelope
from llamakey_addon.errors import (
    BadRequest,
    Broken,
    Denied,
    Forbidden,
    NotReady,
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
