"""Anthropic.

Shapes from https://docs.claude.com/en/api: overview (`x-api-key`, `anthropic-version`; keys are
taken as `Authorization: Bearer` too, which newer SDKs send), messages, messages-streaming (named
events: message_start, content_block_start, ping, content_block_delta, content_block_stop,
message_delta, message_stop), messages-count-tokens, models-list (cursor pages: `after_id`,
`first_id`, `last_id`, `has_more`), files-create (multipart) and files-content (binary), errors
(`{"type": "error", "error": {"type", "message"}, "request_id"}`).
"""

from __future__ import annotations

from tests.fakes.families.base import BEARER, Family, Way
from tests.fakes.families.openai import FILE, NOBODYS, TEXT, WORDS
from tests.fakes.wire import Reply, Request, Routes, binary_reply, json_reply, sse_event, sse_reply

MODELS = tuple(f"claude-fake-{number}" for number in range(1, 6))
routes = Routes()


def error(status: int, kind: str, message: str, *headers: tuple[str, str]) -> Reply:
    """An error in Anthropic's envelope."""
    body = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_fake1"}
    return json_reply(body, status, ("request-id", "req_fake1"), *headers)


def refusal(_: Request) -> Reply:
    return error(401, "authentication_error", "invalid x-api-key")


def unknown(request: Request) -> Reply:
    return error(404, "not_found_error", f"Not found: {request.path}")


def _wrong(request: Request, *fields: str) -> Reply | None:
    body = request.json()
    if not request.header("anthropic-version"):
        return error(400, "invalid_request_error", "anthropic-version: header is required")
    for name in fields:
        if name not in body:
            return error(400, "invalid_request_error", f"{name}: Field required")
    if str(body.get("model")).startswith(NOBODYS):
        return error(404, "not_found_error", f"model: {body['model']}")
    if body.get("model") == "fake-429":
        return error(429, "rate_limit_error", "Number of requests too high.", ("retry-after", "1"))
    return None


@routes("POST", "/v1/messages")
def messages(request: Request) -> Reply:
    wrong = _wrong(request, "model", "max_tokens", "messages")
    if wrong:
        return wrong
    body = request.json()
    usage = {
        "input_tokens": 9,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": 4,
        "service_tier": "standard",
    }
    whole = {
        "id": "msg_fake1",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": [{"type": "text", "text": TEXT}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": usage,
    }
    if not body.get("stream"):
        return json_reply(whole, 200, ("request-id", "req_fake1"))
    start = {**whole, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    events: list[tuple[str, dict[str, object]]] = [
        ("message_start", {"message": start}),
        ("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}),
        ("ping", {}),
    ]
    for word in WORDS:
        delta = {"type": "text_delta", "text": word}
        events.append(("content_block_delta", {"index": 0, "delta": delta}))
    ended = {"stop_reason": "end_turn", "stop_sequence": None}
    events += [
        ("content_block_stop", {"index": 0}),
        ("message_delta", {"delta": ended, "usage": {"output_tokens": 4}}),
        ("message_stop", {}),
    ]
    return sse_reply(
        *(sse_event(name, {"type": name, **data}) for name, data in events),
        headers=(("request-id", "req_fake1"),),
    )


@routes("POST", "/v1/messages/count_tokens")
def count_tokens(request: Request) -> Reply:
    return _wrong(request, "model", "messages") or json_reply({"input_tokens": 9})


def _model(name: str) -> dict[str, object]:
    return {
        "type": "model",
        "id": name,
        "display_name": name.title(),
        "created_at": "2026-01-01T00:00:00Z",
    }


@routes("GET", "/v1/models")
def models(request: Request) -> Reply:
    """Five models, two a page."""
    after = request.query.get("after_id")
    start = MODELS.index(after) + 1 if after in MODELS else 0
    page = MODELS[start : start + 2]
    return json_reply(
        {
            "data": [_model(name) for name in page],
            "first_id": page[0] if page else None,
            "last_id": page[-1] if page else None,
            "has_more": start + 2 < len(MODELS),
        }
    )


@routes("GET", "/v1/models/{model}")
def model(request: Request) -> Reply:
    return json_reply(_model(request.params["model"]))


def _file(name: str, size: int) -> dict[str, object]:
    return {
        "type": "file",
        "id": "file_fake1",
        "filename": name,
        "mime_type": "text/plain",
        "size_bytes": size,
        "created_at": "2026-01-01T00:00:00Z",
        "downloadable": True,
    }


@routes("POST", "/v1/files")
def files_create(request: Request) -> Reply:
    parts = request.form()
    if "file" not in parts:
        return error(400, "invalid_request_error", "file: Field required")
    return json_reply(_file(parts["file"].filename or "", len(parts["file"].content)))


@routes("GET", "/v1/files/{file}/content")
def files_content(_: Request) -> Reply:
    return binary_reply(FILE, "application/octet-stream")


def _batch() -> dict[str, object]:
    return {
        "id": "msgbatch_fake1",
        "type": "message_batch",
        "processing_status": "in_progress",
        "created_at": "2026-01-01T00:00:00Z",
        "results_url": None,
    }


@routes("POST", "/v1/messages/batches")
def batches_create(request: Request) -> Reply:
    if not request.json().get("requests"):
        return error(400, "invalid_request_error", "requests: Field required")
    return json_reply(_batch())


@routes("GET", "/v1/messages/batches")
def batches(_: Request) -> Reply:
    page = {"data": [_batch()], "first_id": "msgbatch_fake1", "last_id": "msgbatch_fake1"}
    return json_reply({**page, "has_more": False})


@routes("GET", "/v1/messages/batches/{batch}")
def batches_get(_: Request) -> Reply:
    return json_reply(_batch())


FAMILY = Family(
    id="anthropic",
    docs="https://docs.claude.com/en/api/overview#authentication",
    ways=(Way("x-api-key"), BEARER),
    key="sk-ant-api03-{random}-AA",
    refusal=refusal,
    routes=routes,
    unknown=unknown,
)
