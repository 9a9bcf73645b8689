"""The meter: reads along, never raises, says what it guessed."""

from __future__ import annotations

import base64
import gzip
import json
import random
from collections.abc import Sequence

import pytest

from llamakey_addon import catalogue
from llamakey_addon.catalogue.models import Endpoint
from llamakey_addon.journey import Headers
from llamakey_addon.meter import Asked, meter_for
from llamakey_addon.meter.include_usage import stripped
from llamakey_addon.meter.salvage import head_member
from llamakey_addon.meter.tally import Tally
from tests.samples import load

SSE: Headers = ((b"Content-Type", b"text/event-stream; charset=utf-8"),)
JSON: Headers = ((b"content-type", b"application/json"),)
STREAM = (
    b'data: {"id":"1","model":"gpt-4o-2024-08-06","choices":[{"delta":{"content":"Hi there, '
    b'you"}}],"usage":null}\n\n'
    b'data: {"id":"1","model":"gpt-4o-2024-08-06","choices":[],"usage":{"prompt_tokens":5,'
    b'"completion_tokens":7,"prompt_tokens_details":{"cached_tokens":2}}}\n\n'
    b"data: [DONE]\n\n"
)
COUNTS = {"input_tokens": 5, "output_tokens": 7, "cache_read_tokens": 2}


def endpoint(provider: str, name: str) -> Endpoint:
    entry = catalogue.load().entries[provider]
    return next(found for found in entry.endpoints if found.name == name)


CHAT = endpoint("openai", "chat")


def test_a_stream_in_single_bytes() -> None:
    meter = meter_for(CHAT, 200, SSE)
    for byte in STREAM:
        meter.feed(bytes([byte]))
    metered = meter.end(complete=True)
    assert metered.exact
    assert metered.counts == COUNTS
    assert metered.model == "gpt-4o-2024-08-06"


def test_what_failed_costs_nothing() -> None:
    for status in (301, 400, 429, 500, 529):
        meter = meter_for(CHAT, status, JSON, Asked(b"x" * 4000))
        meter.feed(b'{"usage":{"prompt_tokens":5}}')
        metered = meter.end(complete=True)
        assert (dict(metered.counts), metered.exact) == ({}, True)


def test_a_stream_that_is_cut_is_guessed() -> None:
    meter = meter_for(CHAT, 200, SSE, Asked(b"x" * 400))
    meter.feed(STREAM[:100])
    assert meter.so_far() == {"input_tokens": 100}
    meter.feed(STREAM[100:150])
    guess = {"input_tokens": 100, "output_tokens": 3}
    assert meter.so_far() == guess
    metered = meter.end(complete=False)
    assert (dict(metered.counts), metered.exact) == (guess, False)


def test_a_stream_whose_last_event_came_is_whole() -> None:
    """SDKs close at `[DONE]`, before the connection's own end."""
    meter = meter_for(CHAT, 200, SSE)
    meter.feed(STREAM)
    assert meter.end(complete=False).exact
    meter = meter_for(CHAT, 200, SSE)
    meter.feed(STREAM.removesuffix(b"data: [DONE]\n\n"))
    assert not meter.end(complete=False).exact


ANTHROPIC = (
    b'event: message_start\ndata: {"type":"message_start","message":{"model":"m","usage":{'
    b'"input_tokens":25,"cache_read_input_tokens":5,"output_tokens":1}}}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"type":"text_delta"'
    b',"text":"Hello, this is a text of forty-eight letters all."}}\n\n'
    b'event: message_delta\ndata: {"type":"message_delta","usage":{"output_tokens":15}}\n\n'
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
)


def test_wherever_a_stream_is_cut_it_counts_what_was_received() -> None:
    found = endpoint("anthropic", "messages")
    before: dict[str, int] = {"output_tokens": 0}
    for cut in range(len(ANTHROPIC)):
        meter = meter_for(found, 200, SSE, Asked(b"x" * 80))
        meter.feed(ANTHROPIC[:cut])
        running = meter.so_far()
        metered = meter.end(complete=False)
        counts = dict(metered.counts)
        # what a blank line has yet to end is read at the end
        assert counts.get("output_tokens", 0) >= running.get("output_tokens", 0)
        assert counts["input_tokens"] in (20, 30)
        assert counts.get("output_tokens", 0) >= before.get("output_tokens", 0)
        assert metered.exact == (cut >= len(ANTHROPIC) - 2)  # the last event, but for its end
        before = counts
    assert before == {"input_tokens": 30, "cache_read_tokens": 5, "output_tokens": 15}


def test_a_text_that_is_cut_is_searched_once() -> None:
    """An expression that tried each way to take it apart would not come to an end."""
    for text in (b"a" * 500_000, b'\\"' * 250_000, b'"content":"' * 50_000):
        meter = meter_for(CHAT, 200, JSON)
        meter.feed(b'{"choices":[{"message":{"content":"' + text)
        assert not meter.end(complete=False).exact
        assert not head_member(b'{"model":"' + text, ["model"])
        assert stripped(b'data: {"a":"' + text + b'","usage":null,"b":"') != b""


def test_estimates_follow_the_text() -> None:
    meter = meter_for(CHAT, 200, SSE, Asked(b"x" * 80))
    word = b'data: {"model":"m","choices":[{"delta":{"content":" word"}}]}\n\n'
    for number in range(1, 3001):
        meter.feed(word)
        if number in (1, 10, 1000):
            # five letters a piece: a token and a quarter
            assert meter.so_far()["output_tokens"] == max(number, number * 5 // 4)
    assert meter.so_far()["input_tokens"] == 20
    assert 3700 <= meter.so_far()["output_tokens"] <= 3800


def test_what_is_allowed_is_never_passed_unseen() -> None:
    chance = random.Random(7)
    asked = 0
    for _ in range(60):
        meter = meter_for(CHAT, 200, SSE)
        allowed = 0
        for _ in range(80):
            text = "w" * chance.choice((0, 1, 3, 20, 200))
            event = b'data: {"model":"m","choices":[{"delta":{"content":"%b"}}]}\n\n'
            meter.feed((event % text.encode()) * chance.randrange(1, 4))
            if meter.is_within():
                assert meter.so_far().get("output_tokens", 0) <= allowed
            else:
                asked += 1
                more = chance.choice((0, 1, 10, 500))
                meter.allow(more)
                allowed = meter.so_far().get("output_tokens", 0) + more
    assert asked < 60 * 80 * 0.6


def test_figures_of_the_providers_end_what_is_allowed() -> None:
    meter = meter_for(CHAT, 200, SSE)
    word = b'data: {"model":"m","choices":[{"delta":{"content":" word"}}]}\n\n'
    meter.feed(word)
    meter.allow(1_000)
    meter.feed(word)
    assert meter.is_within()
    meter.feed(b'data: {"model":"m","choices":[],"usage":{"completion_tokens":900}}\n\n')
    assert not meter.is_within()


def test_a_long_stream_is_guessed_by_samples() -> None:
    meter = meter_for(CHAT, 200, SSE)
    word = b'data: {"model":"m","choices":[{"delta":{"content":" word"}}]}\n\n'
    for _ in range(20_000):
        meter.feed(word)
    assert 24_500 <= meter.end(complete=False).counts["output_tokens"] <= 25_500


@pytest.mark.parametrize("texts", [1, 50, 600, 3000])
@pytest.mark.parametrize("asked", [(), (0,), (1, 300, 2999)])
def test_a_whole_answer_that_is_cut_is_guessed_by_its_text(
    texts: int, asked: Sequence[int]
) -> None:
    """However long it is, and whenever one looks at it."""
    meter = meter_for(CHAT, 200, JSON)
    meter.feed(b'{"model":"m","choices":[')
    piece = b'{"message":{"content":"%b"}},' % (b"word " * 200)
    for number in range(texts):
        meter.feed(piece)
        if number in asked and number < 1000:
            so_far = meter.so_far()["output_tokens"]
            assert so_far == pytest.approx((number + 1) * 250, rel=0.01)
    counts = meter.end(complete=False).counts
    assert counts["output_tokens"] == pytest.approx(texts * 250, rel=0.01)


def test_figures_of_the_same_names_are_read_anew() -> None:
    """Which of its members count is kept for an object like it; not what they hold."""
    for usage, counts in (
        ({"prompt_tokens": 5, "completion_tokens": 7}, {"input_tokens": 5, "output_tokens": 7}),
        ({"prompt_tokens": 50, "completion_tokens": 0}, {"input_tokens": 50}),
        ({"prompt_tokens": None, "completion_tokens": 7}, {"output_tokens": 7}),
        ({"completion_tokens": 7, "prompt_tokens": 5}, {"input_tokens": 5, "output_tokens": 7}),
        ({"prompt_tokens": 5, "completion_tokens": 7, "cached_tokens": 2}, COUNTS),
    ):
        meter = meter_for(CHAT, 200, JSON)
        meter.feed(json.dumps({"model": "m", "usage": usage}).encode())
        assert meter.end(complete=True).counts == counts


def test_text_that_a_stream_repeats_is_guessed_once() -> None:
    meter = meter_for(endpoint("openai", "responses"), 200, SSE)
    meter.feed(b'data: {"type":"response.created","response":{"model":"m"}}\n\n')
    for _ in range(10):
        meter.feed(b'data: {"type":"response.output_text.delta","delta":"four"}\n\n')
    text = "four" * 10
    meter.feed(f'data: {{"type":"response.output_text.done","text":"{text}"}}\n\n'.encode())
    assert meter.end(complete=False).counts == {"output_tokens": 10}


def test_running_figures_of_a_stream_that_has_them_throughout() -> None:
    found = endpoint("gemini", "generate.stream")
    meter = meter_for(found, 200, SSE, Asked(b"x" * 4000))
    for number in range(1, 100):
        chunk = {
            "candidates": [{"content": {"parts": [{"text": "abcd"}]}}],
            "usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": number},
            "modelVersion": "m",
        }
        meter.feed(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        assert meter.so_far() == {"input_tokens": 7, "output_tokens": number}
    metered = meter.end(complete=False)
    assert dict(metered.counts) == {"input_tokens": 7, "output_tokens": 99}
    assert (metered.exact, metered.model) == (False, "m")


def test_lists_that_are_cut() -> None:
    found = endpoint("gemini", "generate.stream")
    meter = meter_for(found, 200, JSON, Asked(b"x" * 40))
    meter.feed(b'[{"candidates":[],"usageMetadata":{"promptTokenCount":7,"candidatesTokenCount":2}')
    meter.feed(b'}\n,\n{"candidates":[{"content":{"parts":[{"text":"abcdefgh ijkl mnop')
    metered = meter.end(complete=False)
    assert dict(metered.counts) == {"input_tokens": 7, "output_tokens": 2}
    assert not metered.exact


@pytest.mark.parametrize(
    "usage",
    [
        "-1",
        "null",
        "[]",
        '"x"',
        "{}",
        '{"prompt_tokens":-5,"completion_tokens":"7"}',
        '{"prompt_tokens":true,"completion_tokens":[1]}',
        '{"prompt_tokens":1e999,"completion_tokens":-0.5}',
        '{"prompt_tokens":100000000000000000000,"prompt_tokens_details":5}',
        '{"prompt_tokens":{"a":1},"completion_tokens_details":{"reasoning_tokens":{}}}',
    ],
)
def test_figures_that_make_no_sense_are_none(usage: str) -> None:
    meter = meter_for(CHAT, 200, JSON, Asked(b"x" * 40))
    meter.feed(b'{"model":"m","choices":[],"usage":' + usage.encode() + b"}")
    assert dict(meter.end(complete=True).counts) == {"input_tokens": 10}


def test_nothing_makes_a_meter_raise() -> None:
    dice = random.Random(11)
    samples = [sample.bytes for sample in load() if not sample.frames]
    kinds = [b"text/event-stream", b"application/json", b"application/x-ndjson", b"", b"\xff"]
    endpoints = [found for entry in catalogue.load().entries.values() for found in entry.endpoints]
    for _ in range(1500):
        body = bytearray(dice.choice(samples))
        for _ in range(dice.randrange(8)):
            at = dice.randrange(len(body) + 1)
            body[at : at + dice.randrange(3)] = dice.randbytes(dice.randrange(4))
        headers = [(b"content-type", dice.choice(kinds))]
        if dice.random() < 0.3:
            coding = dice.choice([b"gzip", b"deflate", b"br", b"\xff"])
            headers.append((b"Content-Encoding", coding))
            body = bytearray(gzip.compress(body)) if dice.random() < 0.5 else body
        asked = Asked(dice.choice([None, b"", b"{", bytes(body), b"[1]"]), length=dice.choice([9]))
        meter = meter_for(dice.choice([None, *endpoints]), 200, tuple(headers), asked)
        at = 0
        while at < len(body):
            step = dice.randrange(1, 400)
            meter.feed(bytes(body[at : at + step]))
            meter.so_far()
            at += step
        metered = meter.end(complete=dice.random() < 0.5)
        assert all(type(count) is int and count >= 0 for count in metered.counts.values())


def test_what_cannot_be_read_is_guessed() -> None:
    for headers in (
        (*JSON, (b"content-encoding", b"br")),
        (*JSON, (b"content-encoding", b"gzip")),
    ):
        meter = meter_for(CHAT, 200, headers, Asked(b"x" * 40))
        meter.feed(b'{"usage":{"prompt_tokens":5}}')
        metered = meter.end(complete=True)
        assert (dict(metered.counts), metered.exact) == ({"input_tokens": 10}, False)


def test_a_fault_of_ours_ends_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(Tally, "take", broken)
    meter = meter_for(CHAT, 200, SSE, Asked(b"x" * 40))
    meter.feed(STREAM)
    meter.feed(STREAM)
    assert meter.so_far() == meter.end(complete=True).counts
    assert meter.so_far()["input_tokens"] == 10


def test_paths_that_nobody_knows_are_read_by_what_they_look_like() -> None:
    for body, counts in {
        '{"usage":{"prompt_tokens":1,"completion_tokens":2}}': (1, 2),
        '{"usage":{"input_tokens":1,"output_tokens":2}}': (1, 2),
        '{"usage":{"input_tokens":1,"cache_read_input_tokens":3,"output_tokens":2}}': (4, 2),
        '{"usageMetadata":{"promptTokenCount":1,"candidatesTokenCount":2}}': (1, 2),
        '{"data":[1,2,3]}': (0, 0),
    }.items():
        meter = meter_for(None, 200, JSON, Asked(b"x" * 400))
        meter.feed(body.encode())
        metered = meter.end(complete=True)
        got = metered.counts.get("input_tokens", 0), metered.counts.get("output_tokens", 0)
        assert got == counts
        assert not metered.exact


def test_what_bills_nothing_counts_nothing() -> None:
    meter = meter_for(endpoint("openai", "models"), 200, JSON)
    meter.feed(b'{"usage":{"prompt_tokens":1}}')
    metered = meter.end(complete=True)
    assert (dict(metered.counts), metered.exact) == ({}, True)


# --- what the request says ------------------------------------------------------------------------


def test_input_is_guessed_by_the_request() -> None:
    picture = base64.b64encode(bytes(range(256)) * 40)
    assert Asked(b"x" * 400).input_tokens() == 100
    assert Asked(
        b'{"image":"data:,' + picture + b'","a":"' + b"y" * 400 + b'"}'
    ).input_tokens() in (range(1100, 1110))
    assert Asked(None, length=400).input_tokens() == 100
    form = ((b"Content-Type", b"multipart/form-data; boundary=x"),)
    assert Asked(None, length=400, headers=form).input_tokens() == 0
    packed = ((b"content-encoding", b"gzip"),)
    assert Asked(gzip.compress(b"x" * 400), headers=packed).input_tokens() == 100


def test_texts_and_numbers_of_a_request() -> None:
    asked = Asked('{"n":3,"input":["né",{"text":"wo"},5],"m":-1,"o":true}'.encode())
    assert asked.characters("text", "input") == 4
    assert (asked.count("n"), asked.count("m"), asked.count("o"), asked.count("p", 7)) == (
        3,
        1,
        1,
        7,
    )
    assert Asked(b"no json").document == {}
    assert Asked(b"[1]").document == {}
    assert Asked(b'{"a":' + b"[" * 100_000).document == {}
