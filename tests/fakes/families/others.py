"""Ollama and Stability.

Ollama, from https://github.com/ollama/ollama/blob/main/docs/api.md (chat: one JSON object a line;
embed; tags) and https://docs.ollama.com/cloud (Bearer at ollama.com); errors (`{"error"}`).
Stability, from https://platform.stability.ai/docs/api-reference: Bearer; stable-image/generate
(multipart in, a picture out for `Accept: image/*`), user/balance; errors
(`{"id", "name", "errors"}`).
"""

from __future__ import annotations

from tests.fakes.families import openai
from tests.fakes.families.base import BEARER, Family
from tests.fakes.families.openai import FILE, TEXT, VECTOR, WORDS
from tests.fakes.wire import Reply, Request, Routes, binary_reply, json_reply, ndjson_reply

ollama = openai.compatible()
stability = Routes()


def _line(model: str, text: str, *, done: bool) -> dict[str, object]:
    line: dict[str, object] = {
        "model": model,
        "created_at": "2026-01-01T00:00:00Z",
        "message": {"role": "assistant", "content": text},
        "done": done,
    }
    if done:
        line |= {"done_reason": "stop", "prompt_eval_count": 9, "eval_count": 4}
    return line


@ollama("POST", "/api/chat")
def chat(request: Request) -> Reply:
    """Streams unless `stream` is false."""
    model = request.json().get("model", "")
    if request.json().get("stream", True) is False:
        return json_reply(_line(model, TEXT, done=True))
    lines = [_line(model, word, done=False) for word in WORDS]
    return ndjson_reply(*lines, _line(model, "", done=True))


@ollama("POST", "/api/embed")
def embed(request: Request) -> Reply:
    model = request.json().get("model", "")
    return json_reply({"model": model, "embeddings": [list(VECTOR)], "prompt_eval_count": 2})


@ollama("GET", "/api/tags")
def tags(_: Request) -> Reply:
    model = {
        "name": "fake:latest",
        "model": "fake:latest",
        "modified_at": "2026-01-01T00:00:00Z",
        "size": 1,
        "digest": "00",
        "details": {"family": "fake"},
    }
    return json_reply({"models": [model]})


def _stability_error(status: int, name: str, message: str) -> Reply:
    return json_reply({"id": "fake1", "name": name, "errors": [message]}, status)


@stability("POST", "/v2beta/stable-image/generate/{kind}")
def generate(request: Request) -> Reply:
    if "prompt" not in request.form():
        return _stability_error(400, "bad_request", "prompt: is required")
    return binary_reply(FILE, "image/png", ("finish-reason", "SUCCESS"), ("seed", "1"))


@stability("GET", "/v1/user/balance")
def balance(_: Request) -> Reply:
    return json_reply({"credits": 1.5})


FAMILIES = (
    Family(
        id="ollama",
        docs="https://docs.ollama.com/cloud",
        ways=(BEARER,),
        key="{random}",
        refusal=lambda _: json_reply({"error": "unauthorized"}, 401),
        routes=ollama,
        unknown=lambda _: json_reply({"error": "not found"}, 404),
    ),
    Family(
        id="stability",
        docs="https://platform.stability.ai/docs/api-reference#authentication",
        ways=(BEARER,),
        key="sk-{random}",
        refusal=lambda _: _stability_error(
            401, "unauthorized", "authorization: invalid or missing header value"
        ),
        routes=stability,
        unknown=lambda _: _stability_error(404, "not_found", "resource not found"),
    ),
)
