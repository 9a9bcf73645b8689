"""The meter: reads along, never raises, says what it guessed."""

from __future__ import annotations

from llamakey_addon import catalogue
from llamakey_addon.catalogue.models import Endpoint
from llamakey_addon.journey import Headers
from llamakey_addon.meter import Asked, meter_for

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
