"""Added latency: one client on a kept connection, one that connects anew each time (TLS upstream),
and the first call of a fresh client over a network's round trip.

    .venv/bin/python scripts/bench/latency.py [--rounds 5] [--round-trip-ms 40]
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import ssl
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from scripts.bench import figures, load, upstream, ways  # noqa: E402

EVERYTHING = "lmk everything on"


def added(rounds: int, count: int, kept: bool) -> dict[str, Any]:
    """One client, one request after the other."""
    tls = not kept
    makers: dict[str, ways.Maker] = {
        "direct": ways.direct,
        EVERYTHING: functools.partial(ways.lmk, everything=True, tls=tls),
        "nginx": functools.partial(ways.by_nginx, tls=tls),
        "stock mitmdump": functools.partial(ways.stock, tls=tls),
    }
    if tls:
        makers["LlamaKey 0.1.4 (Rust, TLS upstream)"] = ways.rust
    else:
        makers["Ferro"] = ways.ferro
    content = ways.body(ways.SMALL)
    p50: dict[str, list[float]] = {}
    p99: dict[str, list[float]] = {}
    with (
        ways.temporary() as top,
        ways.upstream(top) as up,
        ways.several(makers, up, top) as (found, lacking),
    ):
        for way in found:
            load.alone(way, content, count=50, kept=kept)
        for number in range(rounds):
            turn = number % len(found)
            for way in found[turn:] + found[:turn]:
                took = load.alone(way, content, count=count, kept=kept)
                p50.setdefault(way.name, []).append(statistics.median(took))
                p99.setdefault(way.name, []).append(figures.percentile(took, 99))
    direct50, direct99 = p50.pop("direct"), p99.pop("direct")
    rows = [["direct", figures.spread(direct50, ".2f"), figures.spread(direct99, ".2f"), "", ""]]
    more: dict[str, Any] = {"left_out": lacking, "direct_p50_ms": direct50}
    for name, of in p50.items():
        adds50 = [a - b for a, b in zip(of, direct50, strict=True)]
        adds99 = [a - b for a, b in zip(p99[name], direct99, strict=True)]
        more[name] = {"added_p50_ms": adds50, "added_p99_ms": adds99}
        row = [name, *(figures.spread(each, ".2f") for each in (of, p99[name], adds50, adds99))]
        rows.append(row)
    what = "kept connection, plain upstream" if kept else "a new connection each, TLS upstream"
    print(f"\n### One client, {what}\n")
    figures.table(["", "p50 ms", "p99 ms", "added p50 ms", "added p99 ms"], rows)
    ours = more[EVERYTHING]
    middle50 = statistics.median(ours["added_p50_ms"])
    figures.verdict(f"{what}: added p50, ms", middle50, 0.35 if kept else 1.0, least=False)
    if kept:
        middle99 = statistics.median(ours["added_p99_ms"])
        figures.verdict(f"{what}: added p99, ms", middle99, 3.0, least=False)
    return more


@contextlib.contextmanager
def _far(up: ways.Upstream, relay: int) -> Iterator[ways.Upstream]:
    yield dataclasses.replace(up, tls_port=relay)


def first_call(rounds: int, round_trip_ms: float) -> dict[str, Any]:
    """A client that has just started: connect, TLS where the way has it, one request."""
    content = ways.body(ways.SMALL)
    took: dict[str, list[float]] = {}
    with ways.temporary() as top, ways.upstream(top) as up:
        delay_s = round_trip_ms / 2000
        arguments = ("relay", str(up.tls_port), str(delay_s))
        with (
            upstream.started(top / "relay", *arguments) as relay,
            _far(up, relay) as far,
            ways.several(
                {
                    EVERYTHING: functools.partial(ways.lmk, everything=True, tls=True),
                    "stock mitmdump": functools.partial(ways.stock, tls=True),
                },
                far,
                top,
            ) as (found, lacking),
        ):
            straight = ways.Way(
                "direct", relay, ways.PATH, {"Authorization": f"Bearer {ways.REAL}"}
            )
            for number in range(rounds):
                every: list[ways.Way] = [straight, *found]
                turn = number % len(every)
                for way in every[turn:] + every[:turn]:
                    if way is straight:
                        context = ssl.create_default_context(cafile=str(up.ca))
                        begin_s = time.perf_counter()
                        load.once(way.port, way.request(content), context)
                    else:
                        begin_s = time.perf_counter()
                        load.once(way.port, way.request(content), None)
                    took.setdefault(way.name, []).append((time.perf_counter() - begin_s) * 1000)
                    time.sleep(0.1)
    print(f"\n### First call of a fresh client, TLS upstream, {round_trip_ms:g} ms round trip\n")
    rows, kept = [], {}
    for name, of in took.items():
        kept[name] = figures.ratios(of, took["direct"])
        rows.append([name, figures.spread(of, ".1f"), figures.spread(kept[name], ".2f")])
    figures.table(["", "ms", ": direct"], rows)
    if EVERYTHING in kept:
        middle = statistics.median(kept[EVERYTHING])
        figures.verdict("first call : direct", middle, 0.40, least=False)
    return {"ms": took, "ratios": kept, "left_out": lacking}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--round-trip-ms", type=float, default=40)
    wanted = parser.parse_args()
    print(f"{figures.machine()}.")
    kept = {
        "kept": added(wanted.rounds, wanted.count, True),
        "new": added(wanted.rounds, wanted.count // 2, False),
        "first": first_call(3 * wanted.rounds, wanted.round_trip_ms),
    }
    figures.keep("latency", kept)


if __name__ == "__main__":
    main()
