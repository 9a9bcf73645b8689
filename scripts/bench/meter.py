"""What reading along costs: microseconds for a chunk of a stream, and for a whole answer.

    .venv/bin/python scripts/bench/meter.py [--chunks 20000] [--rounds 7]

One core, no network: chunks of five providers' streams, as their documentation shows them, each fed
to a meter and asked for a running figure or not. For scale, what parsing each chunk as JSON would
cost stands beside. README.md beside this file says what the figures mean.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

from llamakey_addon import catalogue
from llamakey_addon.course import with_usage
from llamakey_addon.journey import Body, Headers
from llamakey_addon.meter import Asked, Meter, meter_for
from llamakey_addon.meter.include_usage import Strip

type Case = tuple[str, str, Headers, bytes, bytes]
"""Provider, endpoint, the answer's headers, a chunk, and the last one."""

SSE: Headers = ((b"content-type", b"text/event-stream"),)
NDJSON: Headers = ((b"content-type", b"application/x-ndjson"),)
CHUNKS: dict[str, Case] = {
    "OpenAI chat": (
        "openai",
        "chat",
        SSE,
        b'data: {"id":"chatcmpl-AbCdEf0123456789","object":"chat.completion.chunk","created":172893'
        b'3352,"model":"gpt-4o-2024-08-06","service_tier":"default","system_fingerprint":"fp_6b68a8'
        b'204b","choices":[{"index":0,"delta":{"content":" Hello"},"logprobs":null,"finish_reason":'
        b'null}],"usage":null,"obfuscation":"aXbYcZ"}\n\n',
        b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":9}}\n\n',
    ),
    "OpenAI Responses": (
        "openai",
        "responses",
        SSE,
        b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","sequence_n'
        b'umber":4,"item_id":"msg_67c9fdcf37fc8190ba82116e33fb28c507b8b0ad4e5eb654","output_index":'
        b'0,"content_index":0,"delta":" Hello","logprobs":[],"obfuscation":"7Kdl0wPz"}\n\n',
        b'data: {"type":"response.completed","response":{"usage":{"input_tokens":9,"output_tokens":'
        b"9}}}\n\n",
    ),
    "Anthropic": (
        "anthropic",
        "messages",
        SSE,
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type"'
        b':"text_delta","text":" Hello"}}\n\n',
        b'data: {"type":"message_delta","usage":{"input_tokens":9,"output_tokens":9}}\n\n',
    ),
    "Gemini": (
        "gemini",
        "generate.stream",
        SSE,
        b'data: {"candidates": [{"content": {"parts": [{"text": " Hello there, it is a fine day to '
        b'write."}],"role": "model"},"index": 0}],"usageMetadata": {"promptTokenCount": 4,"candidat'
        b'esTokenCount": 9,"totalTokenCount": 13},"modelVersion": "gemini-2.5-flash"}\n\n',
        b'data: {"candidates":[{"finishReason":"STOP"}],"usageMetadata":{"totalTokenCount":4}}\n\n',
    ),
    "Ollama": (
        "ollama",
        "chat",
        NDJSON,
        b'{"model":"llama3.2","created_at":"2023-08-04T08:52:19.385406455Z","message":{"role":"assi'
        b'stant","content":" Hello"},"done":false}\n',
        b'{"model":"llama3.2","done":true,"done_reason":"stop","prompt_eval_count":9,"eval_count":9'
        b"}\n",
    ),
}


def meter_of(provider: str, name: str, headers: Headers) -> Meter:
    entry = catalogue.load().entries[provider]
    endpoint = next(found for found in entry.endpoints if found.name == name)
    return meter_for(endpoint, 200, headers, Asked(b'{"model":"m"}' + b" " * 4000))


def once(case: Case, run: Callable[[Case, int], None], times: int) -> float:
    """Microseconds of processor time for each of so many."""
    start = time.process_time_ns()
    run(case, times)
    return (time.process_time_ns() - start) / times / 1000


def feed(case: Case, times: int) -> None:
    """Read a stream along."""
    provider, name, headers, chunk, last = case
    meter = meter_of(provider, name, headers)
    for _ in range(times):
        meter.feed(chunk)
    meter.feed(last)
    assert meter.end(complete=True).exact


def ask(case: Case, times: int) -> None:
    """And ask for a running figure after each chunk."""
    provider, name, headers, chunk, _ = case
    meter = meter_of(provider, name, headers)
    for _ in range(times):
        meter.feed(chunk)
        meter.so_far()


def parse(case: Case, times: int) -> None:
    """For scale."""
    data = case[3][case[3].index(b"{") :]
    for _ in range(times):
        json.loads(data)


def strip(case: Case, times: int) -> None:
    filter_ = Strip()
    for _ in range(times):
        filter_.feed(case[3])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    ways: dict[str, Callable[[Case, int], None]] = {
        "read along": feed,
        "and asked": ask,
        "JSON": parse,
    }
    print(f"{'µs a chunk: min / median':<34}" + "".join(f"{way:>16}" for way in ways))
    for title, case in CHUNKS.items():
        took: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(args.rounds):
            for way, run in ways.items():
                took[way].append(once(case, run, args.chunks))
        figures = (f"{min(row):>8.2f} /{statistics.median(row):>6.2f}" for row in took.values())
        print(f"{title + f' ({len(case[3])} bytes)':<34}" + "".join(figures))
    chat = CHUNKS["OpenAI chat"]
    took_out = [once(chat, strip, args.chunks) for _ in range(args.rounds)]
    print(f"taking usage out, µs a chunk: {min(took_out):.2f} / {statistics.median(took_out):.2f}")
    body = json.dumps({"stream": True, "messages": [{"content": "x" * 1000}] * 50}).encode()
    start = time.process_time_ns()
    for _ in range(200):
        with_usage(Body(bytes(bytearray(body))))  # another one each time, so that it is parsed
    took_us = (time.process_time_ns() - start) / 2e5
    print(f"asking for it, µs for {len(body)} bytes, with their reading: {took_us:.0f}")


if __name__ == "__main__":
    main()
