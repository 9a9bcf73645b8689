"""Flavours against genai-prices' extractors, and against the catalogue."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ArrayMatch, UsageExtractor

from llamakey_addon import catalogue
from llamakey_addon.catalogue.models import Flavour as Word
from llamakey_addon.meter import Asked, meter_for
from llamakey_addon.meter.flavours import FLAVOURS, SOCKETS
from llamakey_addon.meter.sockets import socket_meter_for

ENTRIES = catalogue.load().entries
TABLE = {provider.id: provider for provider in get_snapshot().providers}


def test_the_catalogue_knows_the_flavours_that_there_are() -> None:
    words = set(get_args(Word.__value__))
    assert words == {"none", *FLAVOURS, *SOCKETS}
    for entry in ENTRIES.values():
        for endpoint in entry.endpoints:
            if endpoint.usage == "none":
                continue
            table = SOCKETS if endpoint.stream == "websocket" else FLAVOURS
            assert endpoint.usage in table, f"{entry.id} {endpoint.name}"


def test_prices_are_of_providers_that_genai_prices_knows() -> None:
    for entry in ENTRIES.values():
        name = entry.prices.removesuffix("{route}")
        known = name in ("", "free", *TABLE) or any(other.startswith(name) for other in TABLE)
        assert known, f"{entry.id}: {entry.prices}"


# provider of ours, endpoint, theirs, flavour of theirs
SAME = [
    ("openai", "chat", "openai", "chat"),
    ("openai", "responses", "openai", "responses"),
    ("openai", "embeddings", "openai", "embeddings"),
    ("openai", "images", "openai", "images"),
    ("azure", "chat", "azure", "chat"),
    ("azure", "responses", "azure", "responses"),
    ("anthropic", "messages", "anthropic", "default"),
    ("gemini", "generate", "google", "default"),
    ("gemini", "openai.chat", "google", "chat"),
    ("groq", "chat", "groq", "default"),
    ("mistral", "chat", "mistral", "default"),
    ("mistral", "ocr", "mistral", "ocr"),
    ("deepseek", "chat", "deepseek", "chat"),
    ("cohere", "chat", "cohere", "default"),
    ("cohere", "embed", "cohere", "embeddings"),
    ("fireworks", "chat", "fireworks", "chat"),
    ("cerebras", "chat", "cerebras", "chat"),
    ("openrouter", "chat", "openrouter", "chat"),
    ("openrouter", "responses", "openrouter", "default"),
    ("perplexity", "chat", "perplexity", "default"),
    ("perplexity", "responses", "perplexity", "responses"),
    ("perplexity", "embeddings", "perplexity", "embeddings"),
    ("xai", "chat", "x-ai", "chat"),
    ("xai", "responses", "x-ai", "responses"),
    ("huggingface", "chat", "huggingface_together", "default"),
]


def _answers(extractor: UsageExtractor, dice: random.Random) -> Iterator[dict[str, Any]]:
    """Answers with any of the members that the extractor reads, each with a number."""
    for _ in range(60):
        answer: dict[str, Any] = {"model": "m"}
        root = [extractor.root] if isinstance(extractor.root, str) else list(extractor.root)
        for mapping in extractor.mappings:
            way = [mapping.path] if isinstance(mapping.path, str) else list(mapping.path)
            if mapping.required or dice.random() < 0.6:
                _put(answer, [*root, *way], dice.randrange(1, 100_000))
        yield answer


def _put(answer: dict[str, Any], way: list[Any], value: int) -> None:
    for at, step in enumerate(way[:-1]):
        if isinstance(step, ArrayMatch):
            continue
        after = way[at + 1]
        if isinstance(after, ArrayMatch):
            items = answer.setdefault(step, [])
            member = after.match.equals  # type: ignore[union-attr]
            found = next((item for item in items if item[after.field] == member), None)
            if found is None:
                found = {after.field: member}
                items.append(found)
            answer = found
        else:
            answer = answer.setdefault(step, {})
    answer[way[-1]] = value


@pytest.mark.parametrize(("ours", "name", "theirs", "flavour"), SAME, ids=lambda value: value)
def test_counts_are_genai_prices_own(ours: str, name: str, theirs: str, flavour: str) -> None:
    extractors = TABLE[theirs].extractors or []
    extractor = next(found for found in extractors if found.api_flavor == flavour)
    endpoint = next(found for found in ENTRIES[ours].endpoints if found.name == name)
    for answer in _answers(extractor, random.Random(name)):
        _, usage = extractor.extract(answer)
        want = {
            name: count
            for name, count in usage.__dict__.items()
            # modality `text` is what the others leave, and nothing of it is priced
            if count and "text" not in name and name != "input_image_tool_tokens"
            if not (name.startswith("input_") and name.endswith("_tool_tokens"))
        }
        meter = meter_for(endpoint, 200, ((b"content-type", b"application/json"),))
        meter.feed(json.dumps(answer).encode())
        metered = meter.end(complete=True)
        got = {name: count for name, count in metered.counts.items() if name in want}
        assert got == want
        assert metered.exact
        assert not {
            name
            for name in metered.counts
            if name not in want and name not in ("input_tool_tokens", "billed_nusd", "images")
        }


def test_what_runs_beside_a_message_is_a_guess() -> None:
    """An advisor has a model, and so a price, of its own."""
    endpoint = next(found for found in ENTRIES["anthropic"].endpoints if found.name == "messages")
    meter = meter_for(endpoint, 200, ((b"content-type", b"application/json"),))
    iteration = {"type": "advisor_message", "model": "x", "input_tokens": 7, "output_tokens": 5}
    usage = {"input_tokens": 1, "output_tokens": 2, "iterations": [iteration]}
    meter.feed(json.dumps({"model": "m", "usage": usage}).encode())
    metered = meter.end(complete=True)
    assert dict(metered.counts) == {"input_tokens": 8, "output_tokens": 7}
    assert not metered.exact


def test_results_of_two_models_are_a_guess() -> None:
    endpoint = next(
        found for found in ENTRIES["anthropic"].endpoints if found.name.endswith("results")
    )
    asked = Asked(params={"id": "b"})
    meter = meter_for(endpoint, 200, ((b"content-type", b"application/x-jsonl"),), asked)
    for model in ("one", "two"):
        message = {"model": model, "usage": {"input_tokens": 1, "output_tokens": 2}}
        line = {"result": {"type": "succeeded", "message": message}}
        meter.feed(json.dumps(line).encode() + b"\n")
    metered = meter.end(complete=True)
    assert dict(metered.counts) == {"input_tokens": 2, "output_tokens": 4}
    assert (metered.exact, metered.job) == (False, "b")


def test_a_report_that_is_cut_is_left_to_the_next_time() -> None:
    endpoint = next(
        found for found in ENTRIES["anthropic"].endpoints if found.name.endswith("results")
    )
    meter = meter_for(endpoint, 200, ((b"content-type", b"application/x-jsonl"),))
    message = {"model": "m", "usage": {"input_tokens": 1, "output_tokens": 2}}
    meter.feed(json.dumps({"result": {"message": message}}).encode() + b"\n")
    assert dict(meter.end(complete=False).counts) == {}


def test_a_socket_that_breaks_off_is_a_guess() -> None:
    endpoint = next(found for found in ENTRIES["openai"].endpoints if found.name == "realtime")
    meter = socket_meter_for(endpoint)
    message = {"type": "response.done", "response": {"usage": {"input_tokens": 4}}}
    meter(up=False, opcode=1, piece=json.dumps(message).encode(), ends=True)
    assert meter.so_far() == {"input_tokens": 4}
    metered = meter.end(complete=False)
    assert (dict(metered.counts), metered.exact) == ({"input_tokens": 4}, False)
    transcript = {
        "type": "conversation.item.input_audio_transcription.completed",
        "usage": {"type": "duration", "seconds": 2},
    }
    meter(up=False, opcode=1, piece=json.dumps(transcript).encode(), ends=True)
    metered = meter.end(complete=True)
    assert metered.counts["audio_ms"] == 2000
    assert not metered.exact


@pytest.mark.parametrize("opcode", [1, 2])
def test_google_s_sockets_speak_json_in_binary_frames(opcode: int) -> None:
    endpoint = next(found for found in ENTRIES["gemini"].endpoints if found.name == "live")
    meter = socket_meter_for(endpoint)
    message = {"usageMetadata": {"promptTokenCount": 9, "responseTokenCount": 4}}
    data = json.dumps(message).encode()
    meter(up=False, opcode=opcode, piece=data[:10], ends=False)
    meter(up=False, opcode=opcode, piece=data[10:], ends=True)
    metered = meter.end(complete=True)
    assert dict(metered.counts) == {"input_tokens": 9, "output_tokens": 4}
    assert metered.exact


def test_sound_in_binary_frames_says_nothing() -> None:
    endpoint = next(found for found in ENTRIES["openai"].endpoints if found.name == "realtime")
    meter = socket_meter_for(endpoint)
    meter(up=False, opcode=2, piece=b'{"usage": {"input_tokens": 9}}', ends=True)
    assert dict(meter.so_far()) == {}


def _json(provider: str, name: str, answer: object, asked: bytes = b"") -> Any:
    endpoint = next(found for found in ENTRIES[provider].endpoints if found.name == name)
    meter = meter_for(endpoint, 200, ((b"content-type", b"application/json"),), Asked(asked))
    meter.feed(json.dumps(answer).encode())
    return meter.end(complete=True)


def test_a_second_model_makes_an_image_a_guess() -> None:
    usage = {"input_tokens": 1, "output_tokens": 2}
    answer = {"data": [{}], "usage": usage, "svg_usage": {"model": "x", **usage}}
    metered = _json("openai", "images", answer)
    assert (metered.exact, metered.counts["output_tokens"]) == (False, 2)


def test_what_was_dropped_may_have_been_searches() -> None:
    answer = {
        "model": "m",
        "output": [{"type": "message", "text": "x" * 2_000_000}],
        "usage": {"input_tokens": 1, "output_tokens": 2},
    }
    assert _json("openai", "responses", answer, b'{"tools":[]}').exact
    assert not _json("openai", "responses", answer, b'{"tools":[{"type":"web_search"}]}').exact


def test_prompts_that_are_spelled_out_are_counted() -> None:
    details = {"generated_tokens": 2, "prefill": [{"id": 1}, {"id": 2}, {"id": 3}]}
    metered = _json("hfendpoint", "generate", [{"generated_text": "x", "details": details}])
    assert dict(metered.counts) == {"input_tokens": 3, "output_tokens": 2}


def test_only_the_last_message_of_a_session_tells_its_length() -> None:
    endpoint = next(found for found in ENTRIES["deepgram"].endpoints if "socket" in found.name)
    meter = socket_meter_for(endpoint)
    for message in (
        {"type": "Results", "of": "Metadata", "duration": 3},
        {"type": "Metadata", "duration": 7.5},
        {"type": "Results", "of": "Metadata", "duration": 3},
        "Metadata",
    ):
        meter(up=False, opcode=1, piece=json.dumps(message).encode(), ends=True)
    assert meter.end(complete=True).counts["audio_ms"] == 7500


def test_nothing_makes_a_socket_s_meter_raise() -> None:
    dice = random.Random(5)
    for entry in ENTRIES.values():
        for endpoint in entry.endpoints:
            if endpoint.stream != "websocket":
                continue
            meter = socket_meter_for(endpoint)
            for _ in range(200):
                piece = dice.choice([b'{"usage":', b'{"text":"a"}', b"[1]", b"\xff", b'"Metadata"'])
                up = dice.random() < 0.5
                meter(up=up, opcode=dice.choice([1, 2]), piece=piece, ends=dice.random() < 0.5)
                meter.so_far()
            assert not meter.end(complete=False).exact or endpoint.usage == "none"
