"""fal.

Shapes from https://docs.fal.ai/model-apis/model-endpoints/queue (submit answers request_id and
absolute response_url, status_url, cancel_url; states IN_QUEUE, IN_PROGRESS, COMPLETED; a stream of
states as server-sent events), …/synchronous-requests, authentication (`Authorization: Key …`);
errors are `{"detail": …}`; prices are told to whoever has a key
(https://fal.ai/docs/platform-apis/v1/models/pricing). A host other than fal.run stands before the
path, as behind the proxy.
"""

from __future__ import annotations

from tests.fakes.families.base import Family, Way
from tests.fakes.families.openai import TEXT, WORDS
from tests.fakes.wire import Reply, Request, Routes, json_reply, sse_data, sse_reply

routes = Routes()
QUEUE = "https://queue.fal.run"
IMAGE = "https://v3.fal.media/files/b/fake1/out.png"
REQUEST = "80e732af-660e-45cd-bd63-580e4f2a94cc"


def error(status: int, detail: str) -> Reply:
    return json_reply({"detail": detail}, status)


def refusal(_: Request) -> Reply:
    return error(401, "Authentication is required to access this application.")


def unknown(request: Request) -> Reply:
    return error(404, f"Path {request.path} not found")


def _urls(app: str, id: str) -> dict[str, str]:
    base = f"{QUEUE}/{app}/requests/{id}"
    return {"response_url": base, "status_url": f"{base}/status", "cancel_url": f"{base}/cancel"}


def _result() -> Reply:
    return json_reply({"images": [{"url": IMAGE, "content_type": "image/png"}], "prompt": TEXT})


@routes("GET", "/queue.fal.run/{app...}/requests/{id}/status/stream")
def statuses(request: Request) -> Reply:
    urls = _urls(request.params["app"], request.params["id"])
    return sse_reply(
        *(
            sse_data({"status": state, "request_id": request.params["id"], **urls})
            for state in ("IN_QUEUE", "IN_PROGRESS", "COMPLETED")
        )
    )


@routes("GET", "/queue.fal.run/{app...}/requests/{id}/status")
def status(request: Request) -> Reply:
    urls = _urls(request.params["app"], request.params["id"])
    done = {"status": "COMPLETED", "request_id": request.params["id"], "logs": [], "metrics": {}}
    return json_reply({**done, **urls})


@routes("PUT", "/queue.fal.run/{app...}/requests/{id}/cancel")
def cancel(_: Request) -> Reply:
    return json_reply({"status": "CANCELLATION_REQUESTED"}, 202)


@routes("GET", "/queue.fal.run/{app...}/requests/{id}")
def result(_: Request) -> Reply:
    return _result()


@routes("POST", "/queue.fal.run/{app...}")
def submit(request: Request) -> Reply:
    app = "/".join(request.params["app"].split("/")[:2])
    made = {"status": "IN_QUEUE", "request_id": REQUEST, "queue_position": 0}
    return json_reply({**made, **_urls(app, REQUEST)})


@routes("POST", "/rest.fal.ai/storage/upload/initiate")
def initiate(_: Request) -> Reply:
    place = "https://storage.googleapis.com/isolate-dev/fake1?X-Goog-Signature=fake"
    return json_reply({"upload_url": place, "file_url": IMAGE})


@routes("GET", "/api.fal.ai/v1/models/pricing")
def prices(request: Request) -> Reply:
    one = {"endpoint_id": request.query["endpoint_id"], "unit_price": 0.025, "unit": "image"}
    return json_reply({"prices": [one | {"currency": "USD"}], "next_cursor": None})


@routes("POST", "/{app...}/stream")
def stream(_: Request) -> Reply:
    return sse_reply(*(sse_data({"output": word}) for word in WORDS))


@routes("POST", "/{app...}")
def run(_: Request) -> Reply:
    return _result()


FAMILY = Family(
    id="fal",
    docs="https://docs.fal.ai/model-apis/authentication",
    ways=(Way("authorization", "Key {key}"),),
    key="fal-id:{random}",
    refusal=refusal,
    routes=routes,
    unknown=unknown,
)
