"""Failing closed: whatever is raised, wherever, becomes a denial or a cut, and is booked once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from llamakey_addon import account, authenticate, authorize, denial, framing, http1, route
from llamakey_addon.keys import Secret
from tests.roadside import REAL, Bench, make_bench

CHAT = b'{"model": "gpt-x", "messages": []}'
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
KINDS = [
    Exception("boom with " + REAL),
    RecursionError("too deep " + REAL),
    MemoryError(),
    asyncio.CancelledError("cancelled " + REAL),
    SystemExit(1),
    KeyboardInterrupt(),
]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with make_bench(tmp_path) as made:
        yield made


@pytest.fixture(params=KINDS, ids=lambda error: type(error).__name__)
def error(request: pytest.FixtureRequest) -> BaseException:
    found = request.param
    assert isinstance(found, BaseException)
    return found


def raising(error: BaseException) -> Callable[..., NoReturn]:
    def fail(*args: Any, **kwargs: Any) -> NoReturn:
        raise error

    return fail


def ask(bench: Bench) -> None:
    bench.client(bench.head("POST /openai/v1/chat/completions", body=CHAT))


def assert_nothing_leaked(bench: Bench) -> None:
    told = bytes(bench.rim.out) + repr((bench.receipts, bench.log.notes)).encode()
    assert REAL.encode() not in told
    assert bench.key.encode() not in told


def assert_denied(bench: Bench, *, status: int = 500) -> None:
    """A denial in the provider's envelope; the details, less any key, in the log under its id."""
    [got] = bench.got("POST", closed=True)
    assert (got.status, got.whole) == (status, True)
    message = json.loads(got.body)["error"]["message"]
    assert "boom" not in message
    receipt = bench.only_receipt()
    assert (receipt.status, receipt.denied) == (500, "internal_error")
    assert receipt.id in message
    assert any(receipt.id in note for note in bench.log.notes)
    assert_nothing_leaked(bench)


# ── before anything is sent ─────────────────────────────────────────────────────────────────────

EARLY = {
    "arrive": lambda bench: (bench.gate, "arrive"),
    "depart": lambda bench: (bench.gate, "depart"),
    "route": lambda bench: (route, "find"),
    "authenticate": lambda bench: (authenticate, "who"),
    "store": lambda bench: (type(bench.store), "key"),
    "authorize": lambda bench: (authorize, "judge"),
    "headers": lambda bench: (http1, "upstream_headers"),
    "key": lambda bench: (Secret, "reveal"),
}


@pytest.mark.parametrize("stage", EARLY)
def test_a_stage_fails_before_sending(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, stage: str, error: BaseException
) -> None:
    target, name = EARLY[stage](bench)
    bench.grant_at_once(1)
    with monkeypatch.context() as broken:
        broken.setattr(target, name, raising(error))
        if stage == "key":  # its own description of an error asks for the key too
            broken.setattr(bench.gate.book, "scrub", lambda text: text.replace(REAL, "…"))
        ask(bench)
    assert_denied(bench)
    assert not any(link.written for link in bench.links)
    if stage == "key":
        assert [link.state for link in bench.links] == ["dropped"]
    else:
        assert not bench.rim.wishes
    # and the next request is served as if nothing had been
    if not (bench.rim.closed() or bench.rim.finished()):
        bench.grant_at_once(1)
        ask(bench)
        bench.answer(OK)
        assert [got.status for got in bench.got("POST", "POST")] == [500, 200]


def test_a_wish_for_a_connection_fails(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    monkeypatch.setattr(bench.rim, "open_upstream", raising(error))
    ask(bench)
    assert_denied(bench)


# ── while it is sent, and after ─────────────────────────────────────────────────────────────────


def test_the_writing_fails(bench: Bench, error: BaseException) -> None:
    ask(bench)
    link = bench.make_link()
    link.failing = error
    bench.road.opened(link)
    assert link.state == "dropped"
    assert_denied(bench)


def test_an_upload_fails_midway(bench: Bench, error: BaseException) -> None:
    bench.client(bench.head("POST /openai/v1/files", "Content-Length: 100") + b"x" * 10)
    link = bench.open()
    link.failing = error
    bench.client(b"y" * 10)
    assert link.state == "dropped"
    assert not bench.sent(link)[0].whole
    assert_denied(bench)


LATE = {
    "answer head": (http1, "parse_answer_head"),
    "answer headers": (http1, "_read_answer_head"),
}


@pytest.mark.parametrize("stage", LATE)
def test_reading_the_answers_head_fails(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, stage: str, error: BaseException
) -> None:
    ask(bench)
    link = bench.open()
    target, name = LATE[stage]
    monkeypatch.setattr(target, name, raising(error))
    bench.answer(OK)
    assert link.state == "dropped"
    assert_denied(bench)


def test_passing_the_answer_on_fails(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    ask(bench)
    link = bench.open()
    bench.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabx")
    monkeypatch.setattr(framing.Body, "read", raising(error))
    bench.answer(b"def")
    assert link.state == "dropped"
    assert bench.rim.closed()
    [got] = bench.got("POST")
    assert (got.status, got.whole) == (200, False)
    receipt = bench.only_receipt()
    assert (receipt.status, receipt.bytes_down) == (200, 3)
    assert receipt.end != "complete"
    assert_nothing_leaked(bench)


# ── in the book ─────────────────────────────────────────────────────────────────────────────────


def test_an_answers_last_bytes_cannot_leave(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is found to be gone in the midst of a step."""
    ask(bench)
    link = bench.open()
    first = iter([bench.road.client_closed])
    monkeypatch.setattr(bench.rim, "flush", lambda: next(first, int)())
    bench.answer(OK)
    assert bench.road.closed
    assert link.state == "dropped"
    assert bench.only_receipt().end == "client left"


@pytest.mark.parametrize("where", ["settle", "account"])
def test_settling_fails(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, where: str, error: BaseException
) -> None:
    ask(bench)
    link = bench.open()
    if where == "settle":
        monkeypatch.setattr(bench.gate, "settle", raising(error))
    else:
        monkeypatch.setattr(account, "served", raising(error))
    bench.answer(OK)
    assert bench.got("POST", closed=True)[0].body == b"ok", "the answer was whole already"
    assert bench.rim.finished(), "and the connection ends with it"
    assert link.state in ("given back", "dropped")
    receipt = bench.only_receipt()
    assert receipt.id
    assert receipt.status == 200
    assert bench.log.notes, "the log says what failed"
    assert_nothing_leaked(bench)


@pytest.mark.parametrize("where", ["settle", "account"])
def test_settling_fails_when_the_client_leaves(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, where: str, error: BaseException
) -> None:
    ask(bench)
    link = bench.open()
    if where == "settle":
        monkeypatch.setattr(bench.gate, "settle", raising(error))
    else:
        monkeypatch.setattr(account, "served", raising(error))
    bench.road.client_closed()
    assert bench.rim.closed()
    assert link.state == "dropped"
    bench.only_receipt()
    assert_nothing_leaked(bench)


@pytest.mark.parametrize("where", ["refuse", "denial"])
@pytest.mark.parametrize("sent", [False, True])
def test_refusing_fails(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, where: str, sent: bool, error: BaseException
) -> None:
    if where == "refuse":
        monkeypatch.setattr(bench.gate.endings, "refuse", raising(error))
    else:
        monkeypatch.setattr(denial, "answer", raising(error))
    if sent:
        ask(bench)
        link = bench.open()
        bench.answer(b"garbage\r\n\r\n")
        assert link.state == "dropped"
    else:
        bench.client(bench.head("POST /openai/v1/chat/completions", key=None, body=CHAT))
        assert bench.upstream_untouched
    assert bench.rim.closed()
    assert not bench.rim.out
    bench.only_receipt()
    assert bench.log.notes
    assert_nothing_leaked(bench)


def test_the_log_fails(bench: Bench, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    monkeypatch.setattr(bench.log, "write", raising(error))
    monkeypatch.setattr(bench.log, "note", raising(error))
    ask(bench)
    bench.open()
    bench.answer(OK)
    assert bench.got("POST", closed=True)[0].body == b"ok"
    bench.client(bench.head("GET /openai/v1/models", key=None))
    assert REAL.encode() not in bench.rim.out


# ── those who look ──────────────────────────────────────────────────────────────────────────────


class BrokenLook:
    """Somebody who looks, and fails in one of the methods, though none may."""

    def __init__(self, bench: Bench, method: str, error: BaseException) -> None:
        self._bench, self._method, self._error = bench, method, error

    def __getattr__(self, name: str) -> Any:
        def called(*args: Any) -> None:
            if name == self._method:
                raise self._error
            if name == "asked":
                from llamakey_addon.rim import Seen

                self._bench.road.looked(Seen(args[0].ask, args[1]))

        return called


def test_a_hook_of_the_request_fails(bench: Bench, error: BaseException) -> None:
    bench.rim.look = BrokenLook(bench, "asked", error)
    ask(bench)
    assert_denied(bench)
    assert bench.upstream_untouched


def test_a_hook_tells_that_it_failed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    look = BrokenLook(bench, "none", error)
    monkeypatch.setattr(look, "asked", lambda *args: bench.road.look_failed(error), raising=False)
    bench.rim.look = look
    ask(bench)
    assert_denied(bench)
    assert bench.upstream_untouched


@pytest.mark.parametrize("method", ["answered", "piece", "ended"])
def test_a_hook_of_the_answer_fails(bench: Bench, method: str, error: BaseException) -> None:
    bench.rim.look = BrokenLook(bench, method, error)
    bench.grant_at_once(1)
    ask(bench)
    bench.answer(OK)
    [link] = bench.links
    assert link.state in ("given back", "dropped")
    bench.only_receipt()
    assert_nothing_leaked(bench)


def test_a_hook_of_a_denial_fails(bench: Bench, error: BaseException) -> None:
    bench.rim.look = BrokenLook(bench, "refused", error)
    bench.client(bench.head("POST /openai/v1/chat/completions", key=None, body=CHAT))
    assert bench.upstream_untouched
    bench.only_receipt()
    assert_nothing_leaked(bench)


def test_a_timer_fails(bench: Bench, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    ask(bench)
    link = bench.open()
    monkeypatch.setattr(bench.road, "_expire", raising(error))
    bench.wait(10_000)
    assert link.state == "dropped"
    assert_denied(bench)


def test_each_of_pipelined_failures_is_a_denial_of_its_own(bench: Bench) -> None:
    bad = bench.head("POST /openai/v1/chat/completions", body=b"{")
    bench.client(bad * 20)
    got = bench.got(*["POST"] * 20)
    assert [each.status for each in got] == [400] * 20
    assert [receipt.status for receipt in bench.receipts] == [400] * 20
