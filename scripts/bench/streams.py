"""Many streams at once: how soon the first byte comes, how late each chunk, what a chunk costs.

    .venv/bin/python scripts/bench/streams.py [--rounds 3] [--streams 500] [--only NAME ...]

100 chunks at 20 ms each, begun one after the other within a second. Each chunk tells when it was
sent, so it is known how late it came. Clients and upstream are small asyncio ones, in processes of
their own; what they are late by themselves stands in the row `direct`.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from scripts.bench import figures, load, upstream, ways  # noqa: E402

EVERYTHING = "lmk everything on"
CHUNKS, EVERY_S = 100, 0.02
#: Of those that hold out, so that a round ends.
CHOSEN = ("direct", "lmk everything on", "lmk bare", "nginx", "stock mitmdump", "Ferro", "Portkey")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--ramp", type=float, default=1.0)
    parser.add_argument("--only", nargs="*", default=list(CHOSEN))
    wanted = parser.parse_args()
    makers = {
        name: make
        for name, make in ways.ALL.items()
        if any(name.startswith(each) for each in wanted.only)
    }
    print(f"{figures.machine()}.")
    print(f"{wanted.streams} streams, {CHUNKS} chunks at {EVERY_S * 1000:g} ms each.\n")
    content = ways.body(ways.SMALL, stream=True)
    runs: dict[str, list[dict[str, Any]]] = {}
    arguments = ("provider", "--chunks", str(CHUNKS), "--every", str(EVERY_S))
    with (
        ways.temporary() as top,
        ways.upstream(top) as tls,
        upstream.started(top / "provider", *arguments) as port,
    ):
        up = dataclasses.replace(tls, port=port)
        with ways.several(makers, up, top) as (found, lacking):
            for way in found:
                load.streams(way, content, count=20, ramp_s=0.1)
            for number in range(wanted.rounds):
                turn = number % len(found)
                for way in found[turn:] + found[:turn]:
                    before_s = way.cpu_s()
                    told = load.streams(way, content, count=wanted.streams, ramp_s=wanted.ramp)
                    told["cpu_us"] = (way.cpu_s() - before_s) / wanted.streams / CHUNKS * 1e6
                    runs.setdefault(way.name, []).append(told)
                    if told["failed"]:
                        print(f"{way.name}: {told['failed']} failed: {told['failure']}")

    def of(name: str, figure: str) -> list[float]:
        return [each[figure] for each in runs[name]]

    rows = []
    for name in runs:
        cells = ("first_p50_ms", "first_p99_ms", "late_p50_ms", "late_p99_ms")
        row = [name, *(figures.spread(of(name, cell), ".1f") for cell in cells)]
        row.append(figures.spread(of(name, "cpu_us"), ".0f"))
        rows.append(row)
    head = ["", "first byte p50 ms", "p99 ms", "chunk late p50 ms", "p99 ms", "CPU µs a chunk"]
    figures.table(head, rows)
    if EVERYTHING in runs:
        first = statistics.median(of(EVERYTHING, "first_p99_ms"))
        late = statistics.median(of(EVERYTHING, "late_p99_ms"))
        late -= statistics.median(of("direct", "late_p99_ms")) if "direct" in runs else 0
        figures.verdict("first byte p99, ms", first, 10, least=False)
        figures.verdict("chunk later than direct, p99, ms", late, 20, least=False)
        cpu = statistics.median(of(EVERYTHING, "cpu_us"))
        figures.verdict("CPU µs a chunk", cpu, 30, least=False)
    figures.keep("streams", {"streams": wanted.streams, "runs": runs, "left_out": lacking})


if __name__ == "__main__":
    main()
