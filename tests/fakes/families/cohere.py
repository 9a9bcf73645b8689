"""Cohere.

Shapes from https://docs.cohere.com/reference: about (Bearer), chat (v2: JSON; SSE with named events
message-start, content-start, content-delta, content-end, message-end), chat-v1 (stream is one JSON
object a line, `application/stream+json`), embed (v2 with `embedding_types`, v1), rerank,
list-models (`page_token`, `next_page_token`), errors (`{"id", "message"}`); the OpenAI-compatible
surface from https://docs.cohere.com/docs/compatibility-api.
"""

from __future__ import annotations

from tests.fakes.families import openai
from tests.fakes.families.base import BEARER, Family
from tests.fakes.families.openai import TEXT, VECTOR, WORDS
from tests.fakes.wire import (
    Reply,
    Request,
    Routes,
    json_reply,
    ndjson_reply,
    sse_event,
    sse_reply,
)

ID = "c14c80c3-18eb-4519-9460-6c92edd8cfb4"
META = {
    "api_version": {"version": "1"},
    "billed_units": {"input_tokens": 2.0, "output_tokens": 4.0},
    "tokens": {"input_tokens": 9.0, "output_tokens": 4.0},
}
routes = Routes()


def error(status: int, message: str, *headers: tuple[str, str]) -> Reply:
    """An error in Cohere's envelope."""
    return json_reply({"id": ID, "message": message}, status, *headers)


def refusal(_: Request) -> Reply:
    return error(401, "invalid api token")


def unknown(request: Request) -> Reply:
    return error(404, f"404 page not found: {request.path}")


def _wrong(request: Request, *fields: str) -> Reply | None:
    body = request.json()
    for name in fields:
        if name not in body:
            return error(400, f"invalid request: {name} is required")
    if body.get("model") == "fake-429":
        return error(429, "You are using a Trial key, which is limited", ("retry-after", "1"))
    return None


@routes("POST", "/v2/chat")
def chat_v2(request: Request) -> Reply:
    wrong = _wrong(request, "model", "messages")
    if wrong:
        return wrong
    usage = {"billed_units": META["billed_units"], "tokens": META["tokens"]}
    if not request.json().get("stream"):
        message = {"role": "assistant", "content": [{"type": "text", "text": TEXT}]}
        return json_reply(
            {"id": ID, "finish_reason": "COMPLETE", "message": message, "usage": usage}
        )
    blank: dict[str, object] = {
        "role": "assistant",
        "content": [],
        "tool_plan": "",
        "tool_calls": [],
        "citations": [],
    }
    text = {"type": "text", "text": ""}
    events: list[tuple[str, dict[str, object]]] = [
        ("message-start", {"id": ID, "delta": {"message": blank}}),
        ("content-start", {"index": 0, "delta": {"message": {"content": text}}}),
    ]
    for word in WORDS:
        delta = {"message": {"content": {"text": word}}}
        events.append(("content-delta", {"index": 0, "delta": delta}))
    events += [
        ("content-end", {"index": 0}),
        ("message-end", {"delta": {"finish_reason": "COMPLETE", "usage": usage}}),
    ]
    return sse_reply(*(sse_event(name, {"type": name, **data}) for name, data in events))


@routes("POST", "/v1/chat")
def chat_v1(request: Request) -> Reply:
    wrong = _wrong(request, "message")
    if wrong:
        return wrong
    whole = {
        "response_id": ID,
        "generation_id": ID,
        "text": TEXT,
        "chat_history": [],
        "finish_reason": "COMPLETE",
        "meta": META,
    }
    if not request.json().get("stream"):
        return json_reply(whole)
    lines: list[dict[str, object]] = [
        {"is_finished": False, "event_type": "stream-start", "generation_id": ID}
    ]
    for word in WORDS:
        lines.append({"is_finished": False, "event_type": "text-generation", "text": word})
    lines.append(
        {
            "is_finished": True,
            "event_type": "stream-end",
            "response": whole,
            "finish_reason": "COMPLETE",
        }
    )
    return ndjson_reply(*lines, content_type="application/stream+json")


@routes("POST", "/v2/embed")
def embed_v2(request: Request) -> Reply:
    wrong = _wrong(request, "model", "input_type")
    texts = request.json().get("texts", [])
    vectors = [list(VECTOR) for _ in texts]
    return wrong or json_reply(
        {
            "id": ID,
            "texts": texts,
            "embeddings": {"float": vectors},
            "response_type": "embeddings_by_type",
            "meta": META,
        }
    )


@routes("POST", "/v1/embed")
def embed_v1(request: Request) -> Reply:
    texts = request.json().get("texts", [])
    return json_reply(
        {
            "id": ID,
            "texts": texts,
            "embeddings": [list(VECTOR) for _ in texts],
            "response_type": "embeddings_floats",
            "meta": META,
        }
    )


@routes("POST", "/v2/rerank", "/v1/rerank")
def rerank(request: Request) -> Reply:
    wrong = _wrong(request, "query", "documents")
    count = len(request.json().get("documents", []))
    results = [{"index": i, "relevance_score": 1.0 - i / 4} for i in reversed(range(count))]
    return wrong or json_reply({"id": ID, "results": results, "meta": META})


@routes("GET", "/v1/models")
def models(request: Request) -> Reply:
    """Two pages of two models."""
    second = request.query.get("page_token") == "second"
    names = ("command-fake-3", "command-fake-4") if second else ("command-fake-1", "command-fake-2")
    found = [
        {
            "name": name,
            "endpoints": ["chat"],
            "finetuned": False,
            "context_length": 128000.0,
            "tokenizer_url": "https://storage.example/tokenizer.json",
            "default_endpoints": [],
        }
        for name in names
    ]
    return json_reply({"models": found, **({} if second else {"next_page_token": "second"})})


@routes("POST", "/v1/datasets")
def datasets_create(request: Request) -> Reply:
    """Multipart upload of `data`, with name and type in the query."""
    if "data" not in request.form() or "name" not in request.query:
        return error(400, "invalid request: data and name are required")
    return json_reply({"id": f"dataset-{len(request.form()['data'].content)}"})


@routes("POST", "/v1/tokenize")
def tokenize(request: Request) -> Reply:
    wrong = _wrong(request, "text", "model")
    return wrong or json_reply({"tokens": [1, 2], "token_strings": ["a", "b"], "meta": META})


routes.include(openai.compatible("/compatibility/v1"))

FAMILY = Family(
    id="cohere",
    docs="https://docs.cohere.com/reference/about#authentication",
    ways=(BEARER,),
    key="{random}",
    refusal=refusal,
    routes=routes,
    unknown=unknown,
)
