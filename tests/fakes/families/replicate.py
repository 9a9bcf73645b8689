"""Replicate.

Shapes from https://replicate.com/docs/reference/http: authentication (Bearer),
models.predictions.create (201, `Prefer: wait`), predictions.get, predictions.list (pages by an
absolute `next` URL), streams (https://replicate.com/docs/topics/predictions/streaming: an absolute
`urls.stream` on a host of its own, server-sent events `output` and `done`), files.create (multipart
`content`), models.get; errors are problem+json (`{"title", "detail", "status"}`).
"""

from __future__ import annotations

from tests.fakes.families.base import BEARER, Family
from tests.fakes.families.openai import WORDS
from tests.fakes.wire import Reply, Request, Routes, json_reply, sse_reply

routes = Routes()
API = "https://api.replicate.com/v1"


def error(status: int, title: str, detail: str) -> Reply:
    """An error in Replicate's envelope."""
    reply = json_reply({"title": title, "detail": detail, "status": status}, status)
    return Reply(status, (("content-type", "application/problem+json"),), reply.body)


def refusal(_: Request) -> Reply:
    return error(401, "Unauthenticated", "You did not pass a valid authentication token")


def unknown(request: Request) -> Reply:
    return error(404, "Not Found", f"The requested resource {request.path} could not be found.")


def _prediction(status: str = "succeeded") -> dict[str, object]:
    return {
        "id": "fake1prediction",
        "model": "fake/writer",
        "version": "hidden",
        "input": {"prompt": "hi"},
        "logs": "",
        "output": list(WORDS) if status == "succeeded" else None,
        "data_removed": False,
        "error": None,
        "source": "api",
        "status": status,
        "created_at": "2026-01-01T00:00:00.000Z",
        "urls": {
            "get": f"{API}/predictions/fake1prediction",
            "cancel": f"{API}/predictions/fake1prediction/cancel",
            "stream": "https://stream.replicate.com/v1/predictions/fake1prediction",
            "web": "https://replicate.com/p/fake1prediction",
        },
    }


@routes("POST", "/v1/models/{owner}/{name}/predictions", "/v1/predictions")
def create(request: Request) -> Reply:
    if "input" not in request.json():
        return error(422, "Input validation failed", "input is required")
    if request.params.get("name") == "fake-429":
        return error(429, "Too many requests", "Request was throttled.")
    done = request.header("prefer").startswith("wait")
    return json_reply(_prediction("succeeded" if done else "starting"), 201)


@routes("GET", "/v1/predictions/{id}")
def get(_: Request) -> Reply:
    return json_reply(_prediction())


@routes("GET", "/v1/predictions")
def listing(request: Request) -> Reply:
    """Two pages."""
    last = "cursor" in request.query
    return json_reply(
        {
            "previous": f"{API}/predictions" if last else None,
            "next": None if last else f"{API}/predictions?cursor=cD0yMDI2",
            "results": [_prediction(), _prediction()],
        }
    )


@routes("GET", "/stream.replicate.com/v1/predictions/{id}")
def stream(_: Request) -> Reply:
    words = (f"event: output\nid: {n}\ndata: {word}\n\n" for n, word in enumerate(WORDS))
    return sse_reply(*(word.encode() for word in words), b"event: done\ndata: {}\n\n")


@routes("POST", "/v1/files")
def files_create(request: Request) -> Reply:
    parts = request.form()
    if "content" not in parts:
        return error(400, "Bad Request", "content is required")
    return json_reply(
        {
            "id": "file-fake1",
            "name": parts["content"].filename or "",
            "content_type": parts["content"].content_type,
            "size": len(parts["content"].content),
            "etag": "fake",
            "checksums": {"sha256": "00", "md5": "00"},
            "metadata": {},
            "created_at": "2026-01-01T00:00:00.000Z",
            "expires_at": "2026-01-02T00:00:00.000Z",
            "urls": {"get": f"{API}/files/file-fake1"},
        },
        201,
    )


@routes("GET", "/v1/models/{owner}/{name}")
def model(request: Request) -> Reply:
    owner, name = request.params["owner"], request.params["name"]
    return json_reply(
        {
            "url": f"https://replicate.com/{owner}/{name}",
            "owner": owner,
            "name": name,
            "description": None,
            "visibility": "public",
            "github_url": None,
            "paper_url": None,
            "license_url": None,
            "run_count": 1,
            "cover_image_url": None,
            "default_example": None,
            "latest_version": None,
        }
    )


FAMILY = Family(
    id="replicate",
    docs="https://replicate.com/docs/reference/http#authentication",
    ways=(BEARER,),
    key="r8_{random}",
    refusal=refusal,
    routes=routes,
    unknown=unknown,
)
