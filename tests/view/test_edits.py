"""What an addon, or a person at mitmweb's page, makes of a request is judged and sent as such."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.client import Answer, Closed, Wire
from tests.fakes import Request, World
from tests.harness import Proxy, revoke
from tests.view.conftest import CHAT, CHAT_PATH, Caller
from tests.view.page import Page, begun, marked


@pytest.fixture
def upstream(world: World) -> Callable[[], list[Request]]:
    """The requests that reached a provider since the test began."""
    start = world.mark()
    return lambda: world.requests(since=start)


def test_an_edited_path_is_judged_as_edited(
    call: Caller, watched: Proxy, page: Page, upstream: Callable[[], list[Request]]
) -> None:
    bob = watched.mint("bob")
    assert call(key=bob).status == 200
    answer = call(key=bob, meddle="request path /openai/v1/embeddings")
    assert answer.status == 403
    assert len(upstream()) == 1
    flow = page.wait(
        lambda each: marked(call.mark)(each) and each["response"]["status_code"] == 403
    )
    assert flow["request"]["path"] == "/openai/v1/embeddings"


@pytest.mark.parametrize(
    "path",
    ["/openai/v1/../admin", "/nobody/x", "/openai/v1/files HTTP/1.1\r\nX-Smuggled: 1", "//", "*"],
)
def test_an_edit_cannot_make_a_bad_path_good(
    call: Caller, path: str, upstream: Callable[[], list[Request]]
) -> None:
    meddle = f"request path {path}".replace("\r\n", "\\r\\n")
    if "\r" in path:
        meddle = "request header x-a=1\\r\\nX-Smuggled: 1"
    assert call(meddle=meddle).status in (400, 404)
    assert upstream() == []


def test_an_edited_body_and_header_are_what_is_sent(
    call: Caller, world: World, upstream: Callable[[], list[Request]]
) -> None:
    text = '{"model": "other", "messages": []}'
    answer = call(meddle=f"request body {text};requestheaders header x-added=yes")
    assert answer.status == 200
    (sent,) = upstream()
    assert sent.body == text.encode()
    assert sent.header("x-added") == "yes"
    assert sent.header("content-length") == str(len(text))
    assert sent.header("authorization") == f"Bearer {world.key('openai')}"
    assert call.proxy.wait_for_log(model="other")["user"] == "alice"


def test_an_edit_leaves_the_key_and_the_server_alone(
    call: Caller, world: World, upstream: Callable[[], list[Request]]
) -> None:
    deeds = "request host evil.example;request header Authorization=Bearer stolen"
    assert call(meddle=deeds).status == 200
    (sent,) = upstream()
    assert sent.header("host") == f"localhost:{world.port('openai')}"
    assert sent.header("authorization") == f"Bearer {world.key('openai')}"
    call.proxy.wait_for_output("an edit of host, port or scheme is ignored")


def test_dropping_the_masked_key_changes_nothing(
    call: Caller, upstream: Callable[[], list[Request]]
) -> None:
    assert call(meddle="request drop Authorization").status == 200
    assert len(upstream()) == 1


def test_an_addons_answer_counts_after_authentication_only(
    call: Caller, page: Page, upstream: Callable[[], list[Request]]
) -> None:
    answer = call(meddle="request answer 418")
    assert (answer.status, answer.body, answer.header("x-own")) == (418, b"from an addon", "1")
    denied = call(meddle="request answer 418", key="")
    assert denied.status == 401
    assert upstream() == []
    flow = page.wait(
        lambda each: marked(call.mark)(each) and each["response"]["status_code"] == 401
    )
    assert page.content(flow, "response") == denied.body


def test_an_addons_bad_answer_is_a_denial(call: Caller) -> None:
    answer = call(meddle="request answer-bytes -")
    assert answer.status == 500
    assert not answer.header("b")
    assert call(meddle="request answer 101").status == 500


@pytest.mark.parametrize("hook", ["requestheaders", "request"])
def test_a_killed_request_is_closed_unsent(
    call: Caller, page: Page, hook: str, upstream: Callable[[], list[Request]]
) -> None:
    with pytest.raises(Closed):
        call(meddle=f"{hook} kill")
    assert upstream() == []
    flow = page.wait(marked(call.mark))
    assert flow["error"]["msg"] == "Connection killed."


def test_a_flow_killed_while_its_answer_passes_cuts_it(
    call: Caller, page: Page, world: World
) -> None:
    gate = world.gate(call.mark)
    body = CHAT[:-1] + b', "stream": true}'
    with Wire(call.proxy.url) as wire:
        wire.request("POST", CHAT_PATH, [*call.headers(), ("x-fake-gate", call.mark)], body)
        gate.release()
        _, status, _, fields = wire.head()
        pieces = iter(wire.pieces("POST", status, fields))
        next(pieces)
        flow = page.wait(begun(call.mark))
        page.do("POST", f"/flows/{flow['id']}/kill")
        gate.open()
        with pytest.raises(Closed):
            list(pieces)


def test_answers_are_shown_not_edited(call: Caller) -> None:
    answer = call(meddle="response edit-answer -")
    assert answer.status == 200
    assert b"edited" not in answer.body


def test_an_answer_is_never_held(call: Caller, page: Page) -> None:
    assert call(meddle="responseheaders hold;response hold").status == 200
    flow = page.wait(marked(call.mark))
    assert page.wait(lambda each: each["id"] == flow["id"] and not each["intercepted"])


def test_the_body_of_a_stream_cannot_be_edited(
    call: Caller, upstream: Callable[[], list[Request]]
) -> None:
    answer = call("/cohere/odd/upload", b"x" * 300_000, meddle="request body y")
    assert answer.status == 400
    assert b"view.body_bytes" in answer.body
    assert upstream() == []


class Later:
    """A call that runs in a thread."""

    def __init__(self, call: Callable[..., Answer], *args: Any, **kwargs: Any) -> None:
        self.answer: Answer | None = None
        self._thread = threading.Thread(target=self._run, args=(call, args, kwargs))
        self._thread.start()

    def _run(self, call: Callable[..., Answer], args: Any, kwargs: Any) -> None:
        try:
            self.answer = call(*args, **kwargs)
        except Closed:
            pass

    def result(self) -> Answer | None:
        self._thread.join(20)
        assert not self._thread.is_alive()
        return self.answer


def _held(page: Page, call: Caller) -> dict[str, Any]:
    return page.wait(lambda flow: begun(call.mark)(flow) and flow["intercepted"])


@pytest.mark.parametrize("hook", ["requestheaders", "request"])
def test_a_held_request_is_edited_and_resumed(
    call: Caller, page: Page, hook: str, upstream: Callable[[], list[Request]]
) -> None:
    running = Later(call, meddle=f"{hook} hold")
    flow = _held(page, call)
    assert upstream() == []
    headers = [*flow["request"]["headers"], ["x-by-hand", "1"]]
    page.do("PUT", f"/flows/{flow['id']}", {"request": {"headers": headers}})
    page.do("POST", f"/flows/{flow['id']}/resume")
    answer = running.result()
    assert answer is not None
    assert answer.status == 200
    (sent,) = upstream()
    assert sent.header("x-by-hand") == "1"
    assert "sk-lmk" not in sent.head.decode()


def test_a_held_request_is_judged_as_it_was_edited(
    call: Caller, page: Page, watched: Proxy, upstream: Callable[[], list[Request]]
) -> None:
    running = Later(call, key=watched.mint("bob"), meddle="request hold")
    flow = _held(page, call)
    page.do("PUT", f"/flows/{flow['id']}", {"request": {"path": "/openai/v1/files"}})
    page.do("POST", f"/flows/{flow['id']}/resume")
    answer = running.result()
    assert answer is not None
    assert answer.status == 403
    assert upstream() == []


def test_a_held_request_is_killed(
    call: Caller, page: Page, upstream: Callable[[], list[Request]]
) -> None:
    running = Later(call, meddle="request hold")
    flow = _held(page, call)
    page.do("POST", f"/flows/{flow['id']}/kill")
    assert running.result() is None
    assert upstream() == []
    assert page.again(flow)["error"]["msg"] == "Connection killed."


def test_a_client_that_leaves_is_held_no_more(
    call: Caller, page: Page, upstream: Callable[[], list[Request]]
) -> None:
    with Wire(call.proxy.url) as wire:
        wire.request("POST", CHAT_PATH, call.headers(meddle="request hold"), CHAT)
        flow = _held(page, call)
    page.wait(lambda each: each["id"] == flow["id"] and not each["intercepted"])
    page.do("POST", f"/flows/{flow['id']}/resume")
    assert page.wait(marked(call.mark))["error"]["msg"] == "client left"
    assert upstream() == []


@pytest.mark.parametrize("edited", [False, True])
def test_a_key_revoked_while_its_request_is_held_is_refused(
    call: Caller,
    page: Page,
    watched: Proxy,
    upstream: Callable[[], list[Request]],
    edited: bool,
) -> None:
    key = watched.mint("carol")
    running = Later(call, key=key, meddle="request hold")
    flow = _held(page, call)
    revoke(watched.home, key)
    if edited:
        page.do("PUT", f"/flows/{flow['id']}", {"request": {"method": "PUT"}})
    page.do("POST", f"/flows/{flow['id']}/resume")
    answer = running.result()
    assert answer is not None
    assert answer.status == 401
    assert upstream() == []
