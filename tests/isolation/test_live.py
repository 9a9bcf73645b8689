"""Rules and isolation against providers' fakes, through a running proxy."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.client import Answer, Wire
from tests.conftest import Start
from tests.fakes import World
from tests.harness import Proxy

CONFIG = {
    "isolation": {"unowned": "deny"},
    "teams": {"red": {"share": True}},
    "users": {
        "alice": {"team": "red"},
        "eve": {"deny": [{"models": ["*-2", "*-B"]}]},
        "carol": {"team": "red"},
        "dan": {"allow": [{"models": ["fake-1", "good*"]}, {"paths": ["files"]}]},
    },
}
BOUNDARY = "multipart/form-data; boundary=b"


class Caller:
    """One of the users."""

    def __init__(self, wire: Wire, key: str) -> None:
        self._wire = wire
        self._key = key

    def __call__(self, line: str, body: bytes = b"", kind: str = "application/json") -> Answer:
        method, target = line.split()
        slot = "x-api-key" if "/anthropic/" in target else "x-goog-api-key"
        name = slot if "/anthropic/" in target or "/gemini/" in target else "Authorization"
        value = self._key if name == slot else f"Bearer {self._key}"
        headers = [(name, value)]
        if body:
            headers.append(("Content-Type", kind))
        self._wire.request(method, target, headers, body)
        return self._wire.answer(method)


@pytest.fixture
def callers(shared_proxy: Start) -> Iterator[dict[str, Caller]]:
    proxy: Proxy = shared_proxy(config=CONFIG)
    with Wire(proxy.url) as wire:
        yield {name: Caller(wire, proxy.mint(name)) for name in ("alice", "eve", "carol", "dan")}


def ids(answer: Answer) -> list[str]:
    assert answer.status == 200, answer
    document = json.loads(answer.body)
    items = document.get("data", document.get("models", document.get("files")))
    return [item.get("id") or item.get("name") for item in items]


@pytest.mark.parametrize(
    "line", ["GET /openai/v1/models", "GET /groq/openai/v1/models", "GET /together/v1/models"]
)
def test_lists_of_models(callers: dict[str, Caller], line: str) -> None:
    answer = callers["alice"](line)
    document = json.loads(answer.body)
    everything = [
        item["id"] for item in (document if isinstance(document, list) else document["data"])
    ]
    assert len(everything) > 1
    answer = callers["eve"](line)
    document = json.loads(answer.body)
    left = [item["id"] for item in (document if isinstance(document, list) else document["data"])]
    assert left == [name for name in everything if not name.endswith(("-2", "-B"))] != everything
    assert answer.header("content-length") == str(len(answer.body))


def test_a_model_of_another(callers: dict[str, Caller]) -> None:
    chat = b'{"model": "fake-%d", "messages": [{"role": "user", "content": "x"}]}'
    got = callers["eve"]("POST /openai/v1/chat/completions", chat % 1)
    assert got.status == 200, got.body
    assert callers["eve"]("POST /openai/v1/chat/completions", chat % 2).status == 403
    assert callers["eve"]("GET /openai/v1/models/fake-2").status == 403
    assert callers["dan"]("POST /openai/v1/chat/completions", chat % 1).status == 200
    assert callers["dan"]("POST /openai/v1/chat/completions", chat % 3).status == 403


def form(purpose: str, content: bytes) -> bytes:
    return (
        b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n'
        + purpose.encode()
        + b"\r\n"
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'
        + content
        + b"\r\n--b--\r\n"
    )


def test_a_batchs_lines_before_anything_goes_upstream(
    callers: dict[str, Caller], world: World
) -> None:
    line = b'{"custom_id": "1", "url": "/v1/chat/completions", "body": {"model": "fake-%d"}}\n'
    upload = "POST /openai/v1/files"
    assert callers["dan"](upload, form("batch", line % 1), BOUNDARY).status == 200
    since = world.mark()
    answer = callers["dan"](upload, form("batch", line % 1 + line % 2), BOUNDARY)
    assert answer.status == 403 and b"fake-2" in answer.body
    assert world.requests("openai", since) == []


def test_files_are_their_makers(callers: dict[str, Caller]) -> None:
    upload = "POST /groq/openai/v1/files"
    answer = callers["alice"](upload, form("user_data", b"x"), BOUNDARY)
    assert answer.status == 200
    id = json.loads(answer.body)["id"]
    for who, seen in (("alice", True), ("carol", True), ("eve", False), ("dan", False)):
        if who != "dan":  # whose rules do not reach so far
            status = callers[who](f"GET /groq/openai/v1/files/{id}/content").status
            assert status == (200 if seen else 404), who
        assert (id in ids(callers[who]("GET /groq/openai/v1/files"))) is seen, who
    refused = callers["eve"](f"DELETE /groq/openai/v1/files/{id}")
    assert refused.status == 404
    assert json.loads(refused.body)["error"]["code"] == "not_found"


def test_an_upload_is_his_who_began_it(callers: dict[str, Caller], shared_proxy: Start) -> None:
    proxy = shared_proxy(config=CONFIG)
    line = "POST /gemini/upload/v1beta/files"
    begin = json.dumps({"file": {"displayName": "of alice's"}}).encode()

    def upload(target: str, command: str, key: str = "", body: bytes = b"x") -> Answer:
        fields = [("x-goog-upload-protocol", "resumable"), ("x-goog-upload-command", command)]
        fields += [("x-goog-api-key", key)] if key else []
        with Wire(proxy.url) as wire:  # what is refused may end its connection
            wire.request("POST", target, [*fields, ("Content-Type", "application/json")], body)
            return wire.answer("POST")

    eve, alice = (proxy.mint(name) for name in ("eve", "alice"))
    started = upload(line.partition(" ")[2], "start", alice, begin)
    address = started.header("x-goog-upload-url")
    assert address.startswith(f"{proxy.url}/gemini/upload/v1beta/files?upload_id=")
    target = address.removeprefix(proxy.url)
    id = target.partition("upload_id=")[2].partition("&")[0]
    bare = target.partition("&llamakey=")[0]
    finish = "upload, finalize"
    assert upload(target, finish, eve).status == 401
    assert upload(bare, finish, eve).status == 403
    assert upload(bare, finish).status == 401
    assert upload(target.replace(id, "0" * len(id)), finish).status == 401
    assert upload(target, "upload").header("x-goog-upload-status") == "active"
    made = upload(target, finish)
    assert json.loads(made.body)["file"]["name"] == f"files/{id}"
    for who, status in (("alice", 200), ("carol", 200), ("eve", 404)):
        assert callers[who](f"GET /gemini/v1beta/files/{id}:download").status == status


def test_messages_batches_are_their_makers(callers: dict[str, Caller]) -> None:
    batch = {"requests": [{"custom_id": "1", "params": {"model": "fake-1", "max_tokens": 1}}]}
    line = "POST /anthropic/v1/messages/batches"
    answer = callers["alice"](line, json.dumps(batch).encode())
    assert answer.status == 200, answer
    id = json.loads(answer.body)["id"]
    assert callers["alice"](f"GET /anthropic/v1/messages/batches/{id}").status == 200
    assert callers["eve"](f"GET /anthropic/v1/messages/batches/{id}").status == 404
    assert ids(callers["eve"]("GET /anthropic/v1/messages/batches")) == []
    batch["requests"][0]["params"]["model"] = "fake-2"  # type: ignore[index]
    assert callers["eve"](line, json.dumps(batch).encode()).status == 403
