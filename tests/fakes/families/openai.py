"""OpenAI, and what those who copied its API have in common.

Shapes from https://platform.openai.com/docs/api-reference: authentication (Bearer), chat/create and
chat/streaming (data-only events, `[DONE]`, usage in a last chunk without choices on
`stream_options.include_usage`), responses/create and responses-streaming (named events with
`sequence_number`), embeddings/create (`encoding_format` base64: little-endian float32),
models/list, files (multipart create, list by cursor with `after`, `first_id`, `last_id`,
`has_more`, content as bytes), audio/createSpeech (binary), audio/createTranscription (multipart);
errors from https://platform.openai.com/docs/guides/error-codes.
"""

from __future__ import annotations

import base64
import struct

from tests.fakes.families.base import BEARER, Family
from tests.fakes.wire import (
    Reply,
    Request,
    Routes,
    binary_reply,
    json_reply,
    sse_data,
    sse_event,
    sse_reply,
)

WORDS = ("Hello", ", ", "wörld", "!")
"""What every chat answers, one chunk a word when streamed."""
TEXT = "".join(WORDS)
VECTOR = (0.5, -0.25, 0.125, 1.0)
"""Exact in float32."""
SPEECH = bytes(range(256)) * 64
"""What text-to-speech answers."""
FILE = b"\x00\x01binary\r\n\r\nfile\xff" * 100
"""What a file's content is."""
NOBODYS = "doctor-"
"""How names of models begin that no provider has."""
CREATED = 1_760_000_000
USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}


def error(status: int, message: str, kind: str, code: str | None) -> Reply:
    """An error in OpenAI's envelope."""
    body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    return json_reply(body, status)


def refusal(_: Request) -> Reply:
    message = "Incorrect API key provided. You can find your API key in your account's settings."
    return error(401, message, "invalid_request_error", "invalid_api_key")


def unknown(request: Request) -> Reply:
    message = f"Invalid URL ({request.method} {request.path})"
    return error(404, message, "invalid_request_error", None)


def _wrong(request: Request, *fields: str) -> Reply | None:
    """What is wrong with a JSON request: a missing field, or a model that stands for a limit."""
    body = request.json()
    for name in fields:
        if name not in body:
            message = f"Missing required parameter: '{name}'."
            return error(400, message, "invalid_request_error", "missing_required_parameter")
    if str(body.get("model")).startswith(NOBODYS):
        message = f"The model '{body['model']}' does not exist or you do not have access to it."
        return error(404, message, "invalid_request_error", "model_not_found")
    if body.get("model") == "fake-429":
        limited = error(429, "Rate limit reached.", "requests", "rate_limit_exceeded")
        headers = (*limited.headers, ("retry-after", "1"), ("x-ratelimit-remaining-requests", "0"))
        return Reply(status=429, headers=headers, body=limited.body)
    return None


def chat(request: Request) -> Reply:
    wrong = _wrong(request, "model", "messages")
    if wrong:
        return wrong
    body = request.json()
    base = {
        "id": "chatcmpl-fake1",
        "created": CREATED,
        "model": body["model"],
        "system_fingerprint": "fp_fake1",
    }
    if body.get("stream"):
        return sse_reply(
            *_chat_events(base, bool((body.get("stream_options") or {}).get("include_usage")))
        )
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": TEXT, "refusal": None},
        "logprobs": None,
        "finish_reason": "stop",
    }
    return json_reply({**base, "object": "chat.completion", "choices": [choice], "usage": USAGE})


def _chat_events(base: dict[str, object], usage: bool) -> list[bytes]:
    base = {**base, "object": "chat.completion.chunk"}
    deltas: list[tuple[dict[str, str], str | None]] = [({"role": "assistant", "content": ""}, None)]
    deltas += [({"content": word}, None) for word in WORDS]
    deltas += [({}, "stop")]
    events = [
        sse_data({**base, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})
        for delta, reason in deltas
    ]
    if usage:
        events.append(sse_data({**base, "choices": [], "usage": USAGE}))
    return [*events, b"data: [DONE]\n\n"]


def completions(request: Request) -> Reply:
    wrong = _wrong(request, "model")
    if wrong:
        return wrong
    model = request.json()["model"]
    choice = {"text": TEXT, "index": 0, "logprobs": None, "finish_reason": "stop"}
    base = {"id": "cmpl-fake1", "object": "text_completion", "created": CREATED, "model": model}
    return json_reply({**base, "choices": [choice], "usage": USAGE})


def responses(request: Request) -> Reply:
    wrong = _wrong(request, "model", "input")
    if wrong:
        return wrong
    body = request.json()
    part = {"type": "output_text", "text": TEXT, "annotations": [], "logprobs": []}
    item = {"id": "msg_fake1", "type": "message", "status": "completed", "role": "assistant"}
    whole = {
        "id": "resp_fake1",
        "object": "response",
        "created_at": CREATED,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": body["model"],
        "output": [{**item, "content": [part]}],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": {
            "input_tokens": 9,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 4,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 13,
        },
    }
    if not body.get("stream"):
        return json_reply(whole)
    started = {**whole, "status": "in_progress", "output": [], "usage": None}
    place = {"item_id": "msg_fake1", "output_index": 0, "content_index": 0}
    empty = {**item, "status": "in_progress", "content": []}
    events: list[tuple[str, dict[str, object]]] = [
        ("response.created", {"response": started}),
        ("response.in_progress", {"response": started}),
        ("response.output_item.added", {"output_index": 0, "item": empty}),
        ("response.content_part.added", {**place, "part": {**part, "text": ""}}),
    ]
    for word in WORDS:
        events.append(("response.output_text.delta", {**place, "delta": word, "logprobs": []}))
    events += [
        ("response.output_text.done", {**place, "text": TEXT, "logprobs": []}),
        ("response.content_part.done", {**place, "part": part}),
        ("response.output_item.done", {"output_index": 0, "item": {**item, "content": [part]}}),
        ("response.completed", {"response": whole}),
    ]
    return sse_reply(
        *(
            sse_event(name, {"type": name, "sequence_number": number, **data})
            for number, (name, data) in enumerate(events)
        )
    )


def embeddings(request: Request) -> Reply:
    wrong = _wrong(request, "model", "input")
    if wrong:
        return wrong
    body = request.json()
    inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
    vector: object = list(VECTOR)
    if body.get("encoding_format") == "base64":
        vector = base64.b64encode(struct.pack(f"<{len(VECTOR)}f", *VECTOR)).decode()
    data = [{"object": "embedding", "index": i, "embedding": vector} for i in range(len(inputs))]
    usage = {"prompt_tokens": 2, "total_tokens": 2}
    return json_reply(
        {"id": "embd-fake1", "object": "list", "data": data, "model": body["model"], "usage": usage}
    )


def _model(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": CREATED, "owned_by": "fake"}


def models(_: Request) -> Reply:
    return json_reply({"object": "list", "data": [_model("fake-1"), _model("fake-2")]})


def model(request: Request) -> Reply:
    return json_reply(_model(request.params["model"]))


def file_object(number: int, name: str = "notes.jsonl", size: int = len(FILE)) -> dict[str, object]:
    """What the API says of a file."""
    return {
        "id": f"file-{number}",
        "object": "file",
        "bytes": size,
        "created_at": CREATED,
        "filename": name,
        "purpose": "batch",
        "status": "processed",
    }


def files_create(request: Request) -> Reply:
    parts = request.form()
    if "file" not in parts or "purpose" not in parts:
        return error(400, "'file' and 'purpose' are required.", "invalid_request_error", None)
    return json_reply(file_object(1, parts["file"].filename or "", len(parts["file"].content)))


def files_list(request: Request) -> Reply:
    """Five files, two a page."""
    after = request.place("after", "file-")
    page = [file_object(number) for number in range(after + 1, min(after + 3, 6))]
    first, last = (page[0]["id"], page[-1]["id"]) if page else (None, None)
    more = bool(page) and last != "file-5"
    return json_reply(
        {"object": "list", "data": page, "first_id": first, "last_id": last, "has_more": more}
    )


def files_get(request: Request) -> Reply:
    return json_reply({**file_object(1), "id": request.params["file"]})


def files_delete(request: Request) -> Reply:
    return json_reply({"id": request.params["file"], "object": "file", "deleted": True})


def files_content(_: Request) -> Reply:
    name = ("content-disposition", 'attachment; filename="notes.jsonl"')
    return binary_reply(FILE, "application/octet-stream", name)


def speech(request: Request) -> Reply:
    wrong = _wrong(request, "model", "input", "voice")
    return wrong or Reply(
        headers=(("content-type", "audio/mpeg"),),
        chunks=tuple(SPEECH[i : i + 4096] for i in range(0, len(SPEECH), 4096)),
    )


def transcriptions(request: Request) -> Reply:
    parts = request.form()
    if "file" not in parts or "model" not in parts:
        return error(400, "'file' and 'model' are required.", "invalid_request_error", None)
    return json_reply({"text": f"{TEXT} ({len(parts['file'].content)} bytes)"})


def images(request: Request) -> Reply:
    wrong = _wrong(request, "prompt")
    picture = base64.b64encode(FILE).decode()
    return wrong or json_reply({"created": CREATED, "data": [{"b64_json": picture}]})


def moderations(request: Request) -> Reply:
    result = {"flagged": False, "categories": {}, "category_scores": {}}
    return _wrong(request, "input") or json_reply(
        {"id": "modr-fake1", "model": "omni-moderation-latest", "results": [result]}
    )


def compatible(base: str = "/v1") -> Routes:
    """The routes of OpenAI's API below `base`, for OpenAI and for those who speak it."""
    routes = Routes()
    for method, path, handler in (
        ("POST", "/chat/completions", chat),
        ("POST", "/completions", completions),
        ("POST", "/responses", responses),
        ("POST", "/embeddings", embeddings),
        ("GET", "/models", models),
        ("GET", "/models/{model...}", model),
        ("POST", "/files", files_create),
        ("GET", "/files", files_list),
        ("GET", "/files/{file}", files_get),
        ("DELETE", "/files/{file}", files_delete),
        ("GET", "/files/{file}/content", files_content),
        ("POST", "/audio/speech", speech),
        ("POST", "/audio/transcriptions", transcriptions),
        ("POST", "/audio/translations", transcriptions),
        ("POST", "/images/generations", images),
        ("POST", "/moderations", moderations),
    ):
        routes(method, base + path)(handler)
    return routes


FAMILY = Family(
    id="openai",
    docs="https://platform.openai.com/docs/api-reference/authentication",
    ways=(BEARER,),
    key="sk-proj-{random}",
    refusal=refusal,
    routes=compatible(),
    unknown=unknown,
)
