"""What follows from a request's head alone, and what of it does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llamakey_addon.course import filled, with_usage
from llamakey_addon.journey import Ask, Body, Headers, Visit
from tests.roadside import REAL, Bench, make_bench

HEADERS: Headers = (
    (b"Host", b"localhost:8000"),
    (b"Accept-Encoding", b"gzip, br"),
    (b"Range", b"bytes=0-"),
    (b"X-Request-Id", b"first"),
    (b"Content-Length", b"10"),
)
BUDGET = {"users": {"alice": {"budgets": [{"spend": 9, "per": "day"}]}}}


def visit(bench: Bench, target: str, method: str = "POST") -> Visit:
    key = (b"Authorization", f"Bearer {bench.key}".encode())
    ask = Ask("lmk_1", 0.0, "192.0.2.1", method, target, (key, *HEADERS), 10)
    made = bench.gate.arrive(ask)
    assert isinstance(made, Visit)
    return made


def test_headers_are_filled_in_from_the_requests_own_head(tmp_path: Path) -> None:
    with make_bench(tmp_path) as bench:
        first = visit(bench, "/openai/v1/chat/completions")
        assert first.course is not None
        plain = (
            (b"Host", b"api.openai.com"),
            (b"Range", b"bytes=0-"),
            (b"X-Request-Id", b"first"),
            (b"Accept-Encoding", b"gzip"),
        )
        assert filled(first.course.headers, first.ask.headers) == plain
        again = tuple(
            (name, b"again") if name == b"X-Request-Id" else (name, value)
            for name, value in first.ask.headers
        )
        assert (b"X-Request-Id", b"again") in filled(first.course.headers, again)
        # whole, and in no content-coding
        whole = ((b"Host", b"api.openai.com"), plain[2], (b"Accept-Encoding", b"identity"))
        assert filled(first.course.whole_headers, first.ask.headers) == whole


@pytest.mark.parametrize(
    ("target", "config", "asks_usage", "may_cut", "reads_plainly"),
    [
        ("/openai/v1/chat/completions", {}, False, False, True),
        ("/openai/v1/chat/completions", BUDGET, True, True, True),
        ("/openai/v1/embeddings", BUDGET, False, False, True),
        ("/openai/v1/images/edits", BUDGET, False, True, False),
        ("/openai/v1/nothing/known", BUDGET, False, False, False),
    ],
)
def test_what_is_done_with_a_body(
    tmp_path: Path,
    target: str,
    config: dict[str, Any],
    asks_usage: bool,
    may_cut: bool,
    reads_plainly: bool,
) -> None:
    with make_bench(tmp_path, None, **config) as bench:
        course = visit(bench, target).course
        assert course is not None
        told = (course.asks_usage, course.may_cut, course.reads_plainly)
        assert told == (asks_usage, may_cut, reads_plainly)


def test_a_course_of_other_settings_is_not_taken(tmp_path: Path) -> None:
    with make_bench(tmp_path) as bench:
        made = visit(bench, "/openai/v1/chat/completions")
        assert made.course is not None
        stale = replace(made.course, headers=((-1, (b"Host", b"stale")),))
        body = Body(b'{"model": "gpt-4o-mini"}')
        of_now = replace(made, course=stale)
        assert (b"Host", b"stale") in bench.gate.depart(of_now, body).headers
        for course in (None, replace(stale, settings=replace(bench.gate.settings))):
            grant = bench.gate.depart(replace(made, course=course), body)
            assert grant.headers[0] == (b"Host", b"api.openai.com")


def test_no_key_is_shown_by_a_course(tmp_path: Path) -> None:
    with make_bench(tmp_path) as bench:
        made = visit(bench, "/openai/v1/chat/completions")
        assert made.course is not None
        assert REAL not in repr(made)
        assert bench.key not in repr(made.course)


def test_what_is_no_object_is_not_asked() -> None:
    for content in (None, b"", b"[]", b"{", b'{"stream": false}'):
        assert with_usage(Body(content)) is None
