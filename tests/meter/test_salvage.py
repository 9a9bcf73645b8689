"""Figures of answers that are too long to be kept, and of answers that are cut."""

from __future__ import annotations

import base64
import json

import pytest

from llamakey_addon import catalogue
from llamakey_addon.catalogue.models import Endpoint
from llamakey_addon.meter import Asked, meter_for
from llamakey_addon.meter.events import KEPT_BYTES
from llamakey_addon.meter.salvage import documents, head_member, tail_member

JSON = ((b"content-type", b"application/json"),)
SSE = ((b"content-type", b"text/event-stream"),)
LONG = base64.b64encode(b"\x00" * (KEPT_BYTES * 2)).decode()


def endpoint(provider: str, name: str) -> Endpoint:
    entry = catalogue.load().entries[provider]
    return next(found for found in entry.endpoints if found.name == name)


@pytest.mark.parametrize(
    ("tail", "way", "found"),
    [
        (b'0.1]}],"model":"m","usage":{"a":1}}', "usage", {"a": 1}),
        (b'..."}],"usage":{"a":1},"more":[1,{"x":"}"}]}\n', "usage", {"a": 1}),
        (b'..."}],"usage":{"a":1}}]', "usage", {"a": 1}),  # the last of a list
        (b'..."}]},"usage":{"a":1}}}', "response.usage", {"a": 1}),
        (b'..."}]},"usage":{"a":1}}}', "usage", None),
        (b'"usage":{"a":0}}],"usage":{"a":1}}', "usage", {"a": 1}),  # a tool's own before
        (b'"x":{"usage":{"a":0}}},"usage":{"a":1}}', "usage", {"a": 1}),
        (b'"usage":{"a":1},"x":{"usage":{"a":0}}}', "usage", {"a": 1}),
        (b'"t":"\\"usage\\":{\\"a\\":0}"}', "usage", None),
        (b'[{"usage":{"a":0}}]}', "usage", None),
        (b'..."}],"usage":{"a":1}', "usage", None),  # cut
        (b"", "usage", None),
    ],
)
def test_only_members_at_their_place_count(tail: bytes, way: str, found: object) -> None:
    assert tail_member(tail, way.split(".")) == found


def test_the_model_stands_at_the_beginning() -> None:
    head = b'{"id":"1","tool":{"model":"no"},"list":[{"model":"no"}],"model":"m\\u00e9","content":"'
    assert head_member(head, ["model"]) == "mé"
    inner = b'{"type":"x","response":{"id":"1","model":"m","out":"'
    assert head_member(inner, ["response", "model"]) == "m"
    assert head_member(inner, ["model"]) is None
    assert head_member(b'{"text":"\\"model\\":\\"no\\"', ["model"]) is None
    assert head_member(b"", ["model"]) is None


def test_documents_of_a_beginning() -> None:
    whole = b'[{"a":1}\n,\r\n{"b":"},{"}, {"c":'
    assert list(documents(whole)) == [{"a": 1}, {"b": "},{"}]
    assert list(documents(b'{"a":1}\n{"b":2}\n{"c"')) == [{"a": 1}, {"b": 2}]
    assert list(documents(b"")) == list(documents(b"<html>")) == []


LONG_ANSWERS = {
    "embeddings": (
        endpoint("openai", "embeddings"),
        JSON,
        json.dumps(
            {
                "object": "list",
                "data": [{"embedding": LONG}],
                "model": "text-embedding-3-small",
                "usage": {"prompt_tokens": 8, "total_tokens": 8},
            }
        ),
        {"input_tokens": 8},
        "text-embedding-3-small",
    ),
    "an image": (
        endpoint("openai", "images"),
        JSON,
        json.dumps(
            {
                "created": 1,
                "data": [{"b64_json": LONG}, {"b64_json": LONG}],
                "usage": {"input_tokens": 5, "output_tokens": 7},
            }
        ),
        {"input_tokens": 5, "output_tokens": 7, "images": 2},  # as asked
        "",
    ),
    "an image within a stream": (
        endpoint("openai", "responses"),
        SSE,
        "event: response.completed\ndata: "
        + json.dumps(
            {
                "type": "response.completed",
                "response": {
                    "id": "r",
                    "model": "gpt-5",
                    "output": [{"type": "image_generation_call", "result": LONG}],
                    "usage": {"input_tokens": 5, "output_tokens": 7},
                    "user": None,
                },
            },
            separators=(",", ":"),
        )
        + "\n\n",
        {"input_tokens": 5, "output_tokens": 7},
        "gpt-5",
    ),
    "Gemini's image": (
        endpoint("gemini", "generate"),
        JSON,
        json.dumps(
            {
                "candidates": [{"content": {"parts": [{"inlineData": {"data": LONG}}]}}],
                "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 4},
                "modelVersion": "gemini-2.5-flash-image",
            }
        ),
        {"input_tokens": 3, "output_tokens": 4},
        "gemini-2.5-flash-image",
    ),
}


@pytest.mark.parametrize("name", LONG_ANSWERS)
def test_a_long_answer_is_exact_by_its_end(name: str) -> None:
    found, headers, body, counts, model = LONG_ANSWERS[name]
    meter = meter_for(found, 200, headers, Asked(b'{"n":2}'))
    data = body.encode()
    assert len(data) > KEPT_BYTES
    for at in range(0, len(data), 60_001):
        meter.feed(data[at : at + 60_001])
    metered = meter.end(complete=True)
    assert metered.exact
    assert dict(metered.counts) == counts
    assert metered.model == model


@pytest.mark.parametrize("tail", [True, False])
def test_long_embeddings_are_read_by_their_end_where_it_tells(tail: bool) -> None:
    usage = {"usage": {"prompt_tokens": 8, "total_tokens": 8}, "model": "m"}
    data = {"data": [{"embedding": [0.25] * 40_000}]}
    body = json.dumps({**data, **usage} if tail else {**usage, **data}).encode()
    assert 64 * 1024 < len(body) < KEPT_BYTES
    meter = meter_for(endpoint("openai", "embeddings"), 200, JSON)
    meter.feed(body)
    metered = meter.end(complete=True)
    assert (dict(metered.counts), metered.exact, metered.model) == ({"input_tokens": 8}, True, "m")


def test_a_long_answer_that_is_cut_is_no_figure() -> None:
    found, headers, body, _, _ = LONG_ANSWERS["embeddings"]
    meter = meter_for(found, 200, headers, Asked(b"x" * 400))
    meter.feed(body.encode()[:-30])
    metered = meter.end(complete=False)
    assert not metered.exact
    assert dict(metered.counts) == {"input_tokens": 100}
