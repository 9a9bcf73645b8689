"""Whatever an addon raises: a plain denial before sending, an answer as it came after; no end of
the process and no client that hangs."""

from __future__ import annotations

import pytest

from tests.fakes import World
from tests.fakes.families.openai import TEXT
from tests.view.conftest import Caller
from tests.view.page import Page, marked

KINDS = [
    "ValueError",
    "RecursionError",
    "MemoryError",
    "CancelledError",
    "SystemExit",
    "KeyboardInterrupt",
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hook", ["requestheaders", "request"])
def test_before_sending_it_is_a_denial(
    call: Caller, page: Page, world: World, hook: str, kind: str
) -> None:
    start = world.mark()
    answer = call(meddle=f"{hook} raise {kind}")
    assert answer.status == 500
    assert b"LlamaKey request lmk_" in answer.body
    assert b"deliberate" not in answer.body
    assert world.requests(since=start) == []
    assert call.proxy.process.poll() is None
    flow = page.wait(marked(call.mark))
    assert flow["response"]["status_code"] == 500
    assert call().status == 200


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hook", ["responseheaders", "response"])
def test_after_sending_the_answer_is_as_it_came(
    call: Caller, page: Page, hook: str, kind: str
) -> None:
    answer = call(meddle=f"{hook} raise {kind}")
    assert answer.status == 200
    assert TEXT.encode() in answer.body
    assert answer.whole
    assert call.proxy.process.poll() is None
    flow = page.wait(marked(call.mark))
    assert page.content(flow, "response") == answer.body
    assert call().status == 200


@pytest.mark.parametrize("kind", KINDS)
def test_in_the_hook_of_errors(call: Caller, page: Page, kind: str) -> None:
    answer = call("/cohere/odd/truncated?framing=chunked", b"", method="GET",
                  meddle=f"error raise {kind}")  # fmt: skip
    assert not answer.whole
    assert "error" in page.wait(marked(call.mark))
    assert call.proxy.process.poll() is None


@pytest.mark.parametrize("kind", KINDS)
def test_of_a_request_that_is_denied_anyway(call: Caller, kind: str) -> None:
    deeds = ";".join(f"{hook} raise {kind}" for hook in ("requestheaders", "request", "response"))
    assert call(key="", meddle=deeds).status == 401
    assert call.proxy.process.poll() is None
    assert call().status == 200


def test_a_recursion_without_end(call: Caller, world: World) -> None:
    start = world.mark()
    assert call(meddle="request recurse").status == 500
    assert world.requests(since=start) == []
    assert call().status == 200
