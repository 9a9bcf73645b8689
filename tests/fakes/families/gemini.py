"""Google Gemini API.

Shapes from https://ai.google.dev/api: overview (`x-goog-api-key`; `?key=` as in Google's API-key
documentation), generate-content (JSON; streamGenerateContent with `alt=sse`: data-only events, else
one JSON array), tokens (countTokens), embeddings (embedContent, batchEmbedContents), models (pages
by `pageSize`/`pageToken`), files (simple upload; resumable by `x-goog-upload-*` headers, the start
answered with an absolute x-goog-upload-url; `:download`); errors are google.rpc.Status, a wrong key
being INVALID_ARGUMENT with reason API_KEY_INVALID (400). The OpenAI-compatible surface at
/v1beta/openai takes the key as Bearer (https://ai.google.dev/gemini-api/docs/openai).
"""

from __future__ import annotations

import hashlib

from tests.fakes.families import openai
from tests.fakes.families.base import BEARER, Family, Way
from tests.fakes.families.openai import FILE, NOBODYS, TEXT, VECTOR, WORDS
from tests.fakes.wire import Reply, Request, Routes, binary_reply, json_reply, sse_data, sse_reply

USAGE = {"promptTokenCount": 9, "candidatesTokenCount": 4, "totalTokenCount": 13}
NAMES = tuple(f"models/gemini-fake-{number}" for number in range(1, 6))
API = "https://generativelanguage.googleapis.com"
routes = Routes()


def error(status: int, word: str, message: str, reason: str = "") -> Reply:
    """An error in Google's envelope."""
    body: dict[str, object] = {"code": status, "message": message, "status": word}
    if reason:
        body["details"] = [
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": reason,
                "domain": "googleapis.com",
                "metadata": {"service": "generativelanguage.googleapis.com"},
            }
        ]
    return json_reply({"error": body}, status)


def refusal(request: Request) -> Reply:
    if request.credential == "missing":
        message = (
            "Method doesn't allow unregistered callers (callers without established identity)."
        )
        return error(403, "PERMISSION_DENIED", message)
    message = "API key not valid. Please pass a valid API key."
    return error(400, "INVALID_ARGUMENT", message, "API_KEY_INVALID")


def unknown(request: Request) -> Reply:
    return error(404, "NOT_FOUND", f"Requested entity was not found: {request.path}")


def _wrong(request: Request) -> Reply | None:
    if str(request.params.get("model")).startswith(NOBODYS):
        message = f"models/{request.params['model']} is not found for API version v1beta"
        return error(404, "NOT_FOUND", message)
    if request.params.get("model") == "fake-429":
        return error(429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota).")
    return None


def _part(text: str, finish: str | None, model: str) -> dict[str, object]:
    candidate: dict[str, object] = {
        "content": {"parts": [{"text": text}], "role": "model"},
        "index": 0,
    }
    if finish:
        candidate["finishReason"] = finish
    return {
        "candidates": [candidate],
        "usageMetadata": USAGE,
        "modelVersion": model,
        "responseId": "fake1",
    }


def generate(request: Request) -> Reply:
    return _wrong(request) or json_reply(_part(TEXT, "STOP", request.params["model"]))


def stream(request: Request) -> Reply:
    wrong = _wrong(request)
    if wrong:
        return wrong
    model = request.params["model"]
    last = len(WORDS) - 1
    parts = [_part(w, "STOP" if i == last else None, model) for i, w in enumerate(WORDS)]
    if request.query.get("alt") != "sse":
        return json_reply(parts)
    return sse_reply(*(sse_data(part).replace(b"\n", b"\r\n") for part in parts))


def count(request: Request) -> Reply:
    return _wrong(request) or json_reply({"totalTokens": 9})


def embed(request: Request) -> Reply:
    return _wrong(request) or json_reply({"embedding": {"values": list(VECTOR)}})


def embed_batch(request: Request) -> Reply:
    asked = request.json().get("requests", [])
    return _wrong(request) or json_reply({"embeddings": [{"values": list(VECTOR)} for _ in asked]})


def _model(name: str) -> dict[str, object]:
    return {
        "name": name,
        "version": "001",
        "displayName": name,
        "inputTokenLimit": 1048576,
        "outputTokenLimit": 8192,
        "supportedGenerationMethods": ["generateContent", "countTokens"],
    }


def models(request: Request) -> Reply:
    """Five models; pages of two, whatever size is asked for."""
    start = request.place("pageToken")
    page: dict[str, object] = {"models": [_model(name) for name in NAMES[start : start + 2]]}
    if start + 2 < len(NAMES):
        page["nextPageToken"] = str(start + 2)
    return json_reply(page)


def model(request: Request) -> Reply:
    return json_reply(_model("models/" + request.params["model"]))


def upload(request: Request) -> Reply:
    """Simple upload: the body is the file. A resumable one ends with its last piece."""
    commands = request.header("x-goog-upload-command")
    id = request.query.get("upload_id", "")
    if "start" in commands:
        id = hashlib.sha256(request.body).hexdigest()[:12]
        place = f"{API}/upload{request.path.removeprefix('/upload')}?upload_id={id}"
        return Reply(
            headers=(
                ("x-goog-upload-status", "active"),
                ("x-goog-upload-url", f"{place}&upload_protocol=resumable"),
                ("x-goog-upload-control-url", f"{place}&upload_protocol=resumable"),
                ("x-guploader-uploadid", id),
            )
        )
    if id and "finalize" not in commands:
        return Reply(headers=(("x-goog-upload-status", "active"),))
    name = f"files/{id or 'fake1'}"
    return json_reply(
        {
            "file": {
                "name": name,
                "mimeType": request.header("content-type"),
                "sizeBytes": str(request.body_length),
                "uri": f"{API}/v1beta/{name}",
                "state": "ACTIVE",
            }
        },
        200,
        ("x-goog-upload-status", "final"),
    )


def download(_: Request) -> Reply:
    return binary_reply(FILE, "application/octet-stream")


for _version in ("/v1beta", "/v1", "/v1alpha"):
    for _method, _path, _handler in (
        ("POST", "/models/{model}:generateContent", generate),
        ("POST", "/models/{model}:streamGenerateContent", stream),
        ("POST", "/models/{model}:countTokens", count),
        ("POST", "/models/{model}:embedContent", embed),
        ("POST", "/models/{model}:batchEmbedContents", embed_batch),
        ("GET", "/models", models),
        ("GET", "/models/{model}", model),
        ("GET", "/files/{file}:download", download),
    ):
        routes(_method, _version + _path)(_handler)
    routes("POST", f"/upload{_version}/files")(upload)
routes.include(openai.compatible("/v1beta/openai"))

FAMILY = Family(
    id="gemini",
    docs="https://ai.google.dev/api#authentication",
    ways=(Way("x-goog-api-key"), Way(query="key"), BEARER),
    key="AIza{random}",
    refusal=refusal,
    routes=routes,
    unknown=unknown,
)
