"""LlamaKey under stress, everything on: slow readers, idle clients, many streams, a flood.

    .venv/bin/python scripts/bench/stress.py [slow] [idle] [streams] [flood] [--workers N]

slow     100 clients read endless streams at 32 KB a second each: what is taken from the provider
         meanwhile, and how the proxy's memory grows
idle     2,000 connections that wait, half of which were served before, beside clients that ask
streams  500 streams at once, 100 chunks at 20 ms each
flood    100 clients send bad requests as fast as they can, beside 8 good ones

The flood comes from a process of its own, so that it is the proxy that good clients wait for, and
not each other. What is counted is kept as JSON, as by the other benchmarks.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from scripts.bench import chats, figures, load, upstream, ways  # noqa: E402

SECTIONS = ("slow", "idle", "streams", "flood")
KB, MB = 1024, 1024 * 1024


# --- a provider -----------------------------------------------------------------------------------


class Provider(chats.Chats):
    """Answers chats at once; streams of its own never end. Counts what it could hand over."""

    def __init__(self) -> None:
        self.handed = 0
        self.streams = 0
        super().__init__()

    async def answer(self, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        if not body.get("stream"):
            chats.whole(writer, ways.MODEL, 9)
            return
        writer.write(chats.STREAM)
        choice = {"index": 0, "delta": {"content": "x" * 8000}}
        piece = chats.piece({"model": ways.MODEL, "choices": [choice]})
        self.streams += 1
        while True:
            writer.write(piece)
            await writer.drain()
            self.handed += len(piece)


@contextlib.contextmanager
def served(top: Path, workers: int) -> Iterator[tuple[ways.Way, Provider]]:
    provider = Provider()
    up = ways.Upstream(provider.port, 0, top, top)
    folder = top / "lmk"
    folder.mkdir()
    arguments = ("--workers", str(workers)) if workers > 1 else ()
    with ways.lmk(up, folder, everything=True, arguments=arguments) as way:
        ways.until_it_answers(way)
        asyncio.run(_good(way, 4, 1.0))  # what first requests load is no growth
        yield way, provider


class Memory:
    """The most that a way's processes have taken since this was made."""

    def __init__(self, way: ways.Way) -> None:
        self._way = way
        self.before_mb = way.rss_mb()
        self.most_mb = self.before_mb
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._over.wait(0.1):
            self.most_mb = max(self.most_mb, self._way.rss_mb())

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def grown_mb(self) -> float:
        return self.most_mb - self.before_mb


# --- good clients ---------------------------------------------------------------------------------


async def _good(
    way: ways.Way, clients: int, seconds: float, pause_s: float = 0.02
) -> tuple[list[float], Counter[str]]:
    """How long each answer took, in ms, and what came of them; each on a kept connection."""
    request = way.request(ways.body(ways.SMALL))
    took: list[float] = []
    told: Counter[str] = Counter()
    end_s = time.monotonic() + seconds

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", way.port)
        try:
            while time.monotonic() < end_s:
                begun_s = time.perf_counter()
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
                await reader.readexactly(int(length[1]) if length else 0)
                took.append((time.perf_counter() - begun_s) * 1000)
                told[head[9:12].decode()] += 1
                await asyncio.sleep(pause_s)
        except (OSError, asyncio.IncompleteReadError) as error:
            told[type(error).__name__] += 1
        finally:
            writer.close()

    await asyncio.gather(*(one() for _ in range(clients)))
    return took, told


def shown(took: list[float]) -> dict[str, float]:
    return {
        "p50_ms": round(statistics.median(took), 2),
        "p99_ms": round(figures.percentile(took, 99), 2),
        "most_ms": round(max(took), 2),
    }


# --- sections -------------------------------------------------------------------------------------


def slow(top: Path, workers: int, clients: int = 100, seconds: float = 24.0) -> dict[str, Any]:
    with served(top, workers) as (way, provider):
        request = way.request(ways.body(ways.SMALL, stream=True))

        async def one(got: list[int], end_s: float) -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", way.port, limit=16 * KB)
            writer.write(request)
            while time.monotonic() < end_s:
                piece = await reader.read(8 * KB)
                got[0] += len(piece)
                await asyncio.sleep(0.25)
            writer.transport.abort()

        async def crowd() -> tuple[int, list[dict[str, float]]]:
            got, looks = [0], []
            end_s = time.monotonic() + seconds
            readers = [asyncio.ensure_future(one(got, end_s)) for _ in range(clients)]
            while time.monotonic() < end_s:
                await asyncio.sleep(seconds / 8)
                looks.append(
                    {
                        "read_mb": round(got[0] / MB, 1),
                        "taken_mb": round(provider.handed / MB, 1),
                        "grown_mb": round(memory.most_mb - memory.before_mb, 1),
                    }
                )
            await asyncio.gather(*readers)
            return got[0], looks

        with Memory(way) as memory:
            read, looks = asyncio.run(crowd())
        ahead_kb = (provider.handed - read) / clients / KB
        print(
            f"slow: {clients} readers took {read / MB:.1f} MB in {seconds:g} s; the provider could "
            f"hand over {provider.handed / MB:.1f} MB, {ahead_kb:.0f} KB a stream ahead of its "
            f"reader (sockets' buffers included); memory grew by {memory.grown_mb:.1f} MB, "
            f"{memory.grown_mb / clients * KB:.0f} KB a stream"
        )
        for look in looks:
            print(f"      {look}")
        return {"clients": clients, "ahead_kb": ahead_kb, "looks": looks, **_memory(memory)}


def idle(top: Path, workers: int, clients: int = 2000, seconds: float = 8.0) -> dict[str, Any]:
    with served(top, workers) as (way, _):
        request = way.request(ways.body(ways.SMALL))

        async def crowd() -> tuple[list[float], Counter[str], int]:
            ends = []
            for number in range(clients):
                reader, writer = await asyncio.open_connection("127.0.0.1", way.port)
                ends.append((reader, writer))
                if number % 2:
                    writer.write(request)
            for reader, _ in ends[1::2]:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
                await reader.readexactly(int(length[1]) if length else 0)
            took, told = await _good(way, 8, seconds)
            # each of them is served still
            for _, writer in ends:
                writer.write(request)
            heads = await asyncio.gather(*(reader.readuntil(b"\r\n\r\n") for reader, _ in ends))
            for _, writer in ends:
                writer.close()
            return took, told, sum(head.startswith(b"HTTP/1.1 200 ") for head in heads)

        with Memory(way) as memory:
            took, told, served_after = asyncio.run(crowd())
        print(
            f"idle: {clients} connections wait; beside them {len(took)} requests {dict(told)}, "
            f"{shown(took)}; then all at once: {served_after} served; memory grew by "
            f"{memory.grown_mb:.1f} MB, {memory.grown_mb / clients * KB:.0f} KB each"
        )
        return {
            "clients": clients,
            "good": shown(took),
            "told": dict(told),
            "served_after": served_after,
            **_memory(memory),
        }


def streams(top: Path, workers: int, count: int = 500) -> dict[str, Any]:
    folder = top / "lmk"
    folder.mkdir()
    with upstream.started(top / "provider", "provider") as port:
        up = ways.Upstream(port, 0, top, top)
        arguments = ("--workers", str(workers)) if workers > 1 else ()
        with ways.lmk(up, folder, everything=True, arguments=arguments) as way:
            ways.until_it_answers(way)
            content = ways.body(ways.SMALL, stream=True)
            load.streams(way, content, count=50, ramp_s=0.2)
            before_s = way.cpu_s()
            with Memory(way) as memory:
                told = load.streams(way, content, count=count, ramp_s=1.0)
            cpu_us = (way.cpu_s() - before_s) / max(1, told["chunks"]) * 1e6
    print(
        f"streams: {count} at once, {told['chunks']} chunks, {told['failed']} failed "
        f"{told['failure']}; first byte p99 {told['first_p99_ms']:.1f} ms, chunks late p99 "
        f"{told['late_p99_ms']:.1f} ms, {cpu_us:.0f} µs of processor time a chunk; memory grew by "
        f"{memory.grown_mb:.1f} MB"
    )
    return {"count": count, "cpu_us": cpu_us, **told, **_memory(memory)}


def flood(top: Path, workers: int, clients: int = 100, seconds: float = 10.0) -> dict[str, Any]:
    with served(top, workers) as (way, _):
        alone, _ = asyncio.run(_good(way, 8, 4.0))
        before_s = way.cpu_s()
        with Memory(way) as memory:
            key = way.headers["Authorization"]
            arguments = [str(way.port), str(clients), str(seconds)]
            folder = top / "flood"
            folder.mkdir()
            command = [sys.executable, __file__, "--flood", *arguments, key]
            with ways.child(command, folder) as flooding:
                time.sleep(1.0)
                took, told = asyncio.run(_good(way, 8, seconds - 2))
                flooding.wait(60)
            bad = json.loads((folder / "output.txt").read_text())
        cpu_s = way.cpu_s() - before_s
        print(
            f"flood: {sum(bad.values())} bad requests by {clients} clients {bad}; beside them "
            f"{len(took)} good ones {dict(told)}, {shown(took)} (before: {shown(alone)}); "
            f"{cpu_s:.1f} s of processor time; memory grew by {memory.grown_mb:.1f} MB"
        )
        return {
            "bad": bad,
            "good": shown(took),
            "good_told": dict(told),
            "good_alone": shown(alone),
            **_memory(memory),
        }


def _memory(memory: Memory) -> dict[str, float]:
    return {"before_mb": round(memory.before_mb, 1), "grown_mb": round(memory.grown_mb, 1)}


# --- the flood ------------------------------------------------------------------------------------


def bad_requests(bearer: str) -> list[tuple[str, bytes]]:
    """Bad in many ways, each with a name."""

    def head(line: str, *fields: str) -> bytes:
        return "\r\n".join([f"{line} HTTP/1.1", "Host: a", *fields, "", ""]).encode()

    key = f"Authorization: {bearer}"
    path = f"/openai{ways.PATH}"
    json_ = "Content-Type: application/json"
    foreign = json.dumps({"model": "o3-forbidden", "messages": []}).encode()
    wrong = "Authorization: Bearer sk-lmk-aaaaaaaaaa-" + "0" * 49
    return [
        ("no key", head(f"POST {path}", "Content-Length: 0")),
        ("wrong key", head(f"POST {path}", wrong, "Content-Length: 0")),
        ("no such path", head("GET /nowhere/at/all", key)),
        ("no HTTP", b"\x16\x03\x01 what is this\r\n\r\n"),
        ("two lengths", head(f"POST {path}", key, "Content-Length: 3", "Content-Length: 4")),
        ("long head", head(f"GET {path}", key, "X-Long: " + "x" * 70_000)),
        ("dots", head("GET /openai/../../etc/passwd", key)),
        (
            "forbidden model",
            head(f"POST {path}", key, json_, f"Content-Length: {len(foreign)}") + foreign,
        ),
        ("no JSON", head(f"POST {path}", key, json_, "Content-Length: 9") + b'{"model":'),
    ]


async def _flood(port: int, clients: int, seconds: float, bearer: str) -> Counter[str]:
    kinds = bad_requests(bearer)
    told: Counter[str] = Counter()
    end_s = time.monotonic() + seconds

    async def one(number: int) -> None:
        while time.monotonic() < end_s:
            number += 1
            _, request = kinds[number % len(kinds)]
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(request)
                head = await reader.read(4096)
                told[head[9:12].decode() or "closed"] += 1
                writer.close()
            except OSError:
                told["reset"] += 1

    await asyncio.gather(*map(one, range(clients)))
    return told


def main() -> int:
    if sys.argv[1:2] == ["--flood"]:
        port, clients, seconds, bearer = sys.argv[2:]
        told = asyncio.run(_flood(int(port), int(clients), float(seconds), bearer))
        print(json.dumps(told))
        return 0
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("sections", nargs="*", default=list(SECTIONS))
    parser.add_argument("--workers", type=int, default=1)
    wanted = parser.parse_args()
    runs: dict[str, Callable[[Path, int], dict[str, Any]]] = {
        "slow": slow,
        "idle": idle,
        "streams": streams,
        "flood": flood,
    }
    print(f"{figures.machine()}; {wanted.workers} worker(s).\n", flush=True)
    kept: dict[str, Any] = {"workers": wanted.workers}
    for name in wanted.sections:
        with ways.temporary() as top:
            kept[name] = runs[name](top, wanted.workers)
        sys.stdout.flush()
    figures.keep("stress", kept)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
