"""Vectara v2.

Shapes from https://docs.vectara.com/docs/rest-api: authentication (`x-api-key`), query (JSON; SSE
on `stream_response` with named events search_results, generation_chunk, generation_end, end),
list-corpora (pages by `metadata.page_key`), upload-file (multipart `file`), errors
(`{"messages": […], "request_id"}`).
"""

from __future__ import annotations

from tests.fakes.families.base import TOKEN, Family, Way
from tests.fakes.families.openai import TEXT, WORDS
from tests.fakes.wire import Reply, Request, Routes, json_reply, sse_event, sse_reply

routes = Routes()


def error(status: int, message: str) -> Reply:
    """An error in Vectara's envelope."""
    return json_reply({"messages": [message], "request_id": "fake1"}, status)


def refusal(_: Request) -> Reply:
    return error(401, "Unauthenticated: the API key is not valid.")


def unknown(request: Request) -> Reply:
    return error(404, f"No resource at {request.path}")


RESULT = {
    "text": TEXT,
    "score": 0.9,
    "part_metadata": {},
    "document_metadata": {},
    "document_id": "doc-1",
    "request_corpora_index": 0,
}


@routes("POST", "/v2/query", "/v2/corpora/{corpus}/query")
def query(request: Request) -> Reply:
    if "query" not in request.json():
        return error(400, "query is required")
    if not request.json().get("stream_response"):
        return json_reply(
            {
                "summary": TEXT,
                "response_language": "eng",
                "search_results": [RESULT],
                "factual_consistency_score": 0.9,
            }
        )
    events = [sse_event("search_results", {"type": "search_results", "search_results": [RESULT]})]
    for word in WORDS:
        chunk = {"type": "generation_chunk", "generation_chunk": word}
        events.append(sse_event("generation_chunk", chunk))
    events.append(sse_event("generation_end", {"type": "generation_end"}))
    events.append(sse_event("end", {"type": "end"}))
    return sse_reply(*events)


def _corpus(number: int) -> dict[str, object]:
    return {
        "id": f"crp_{number}",
        "key": f"corpus-{number}",
        "name": f"Corpus {number}",
        "enabled": True,
    }


@routes("GET", "/v2/corpora")
def corpora(request: Request) -> Reply:
    """Four corpora, two a page."""
    start = request.place("page_key")
    page = {"corpora": [_corpus(start + 1), _corpus(start + 2)]}
    return json_reply({**page, "metadata": {} if start else {"page_key": "2"}})


@routes("POST", "/v2/corpora/{corpus}/upload_file")
def upload_file(request: Request) -> Reply:
    parts = request.form()
    if "file" not in parts:
        return error(400, "file is required")
    used = {"bytes_used": len(parts["file"].content), "metadata_bytes_used": 0}
    return json_reply(
        {"id": parts["file"].filename or "", "metadata": {}, "parts": [], "storage_usage": used},
        201,
    )


FAMILY = Family(
    id="vectara",
    docs="https://docs.vectara.com/docs/rest-api#authentication",
    ways=(Way("x-api-key"), TOKEN),
    key="zwt_{random}",
    refusal=refusal,
    routes=routes,
    unknown=unknown,
)
