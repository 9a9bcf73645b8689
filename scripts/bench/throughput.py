"""Requests a second for each core of the proxy: every way, small requests and large ones.

    .venv/bin/python scripts/bench/throughput.py [--rounds 5] [--seconds 2] [--only NAME ...]

16 clients on kept connections (wrk), an nginx upstream, plain HTTP, all on this machine. In each
round every way is measured once, the first one moving on; README.md says how to read the figures.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from scripts.bench import figures, load, ways  # noqa: E402
from scripts.bench.load import Run  # noqa: E402

BARE, EVERYTHING = "lmk bare", "lmk everything on"
#: Of everything on to each of these, requests a second for each core.
TARGETS = {
    "stock mitmdump": 10.0,
    "LiteLLM": 60.0,
    "Portkey": 8.0,
    "Ferro": 1.2,
    "LlamaKey 0.1.4 (Rust, TLS upstream)": 0.3,
    BARE: 0.6,
}
SIZES = {"300 bytes": ways.SMALL, "50 KB": ways.LARGE}


def measure(
    found: list[ways.Way], size: int, rounds: int, seconds: float, clients: int, top: Path
) -> dict[str, list[Run]]:
    content = ways.body(size)
    runs: dict[str, list[Run]] = {way.name: [] for way in found}
    for way in list(found):  # caches, pools, compilers
        try:
            load.wrk(way, content, top, clients=clients, seconds=1)
        except RuntimeError as error:
            print(f"left out: {error}", file=sys.stderr, flush=True)
            found.remove(way)
            del runs[way.name]
    for number in range(rounds):
        turn = number % len(found)
        for way in found[turn:] + found[:turn]:
            try:
                run = load.wrk(way, content, top, clients=clients, seconds=seconds)
            except RuntimeError as error:
                print(f"failed: {error}", file=sys.stderr, flush=True)
                run = Run(0, seconds, *[float("nan")] * 3)
            runs[way.name].append(run)
    return runs


def report(size: str, runs: dict[str, list[Run]]) -> dict[str, Any]:
    print(f"\n### Requests of {size}\n")
    rows = []
    for name, of in runs.items():
        row = [name, figures.spread([r.rps for r in of])]
        if name == "direct":
            row += ["-", "-"]
        else:
            row += [figures.spread([r.rps_core for r in of])]
            row += [figures.spread([r.cpu_us for r in of])]
        row += [figures.spread([r.p50_ms for r in of], ".2f")]
        row += [figures.spread([r.p99_ms for r in of], ".2f")]
        rows.append(row)
    head = ["", "requests/s", "for each core of the proxy", "CPU µs a request", "p50 ms", "p99 ms"]
    figures.table(head, rows)
    kept: dict[str, Any] = {}
    ours = runs.get(EVERYTHING)
    if ours is None:
        return kept
    rows = []
    for name, target in TARGETS.items():
        if name in runs:
            found = figures.ratios([r.rps_core for r in ours], [r.rps_core for r in runs[name]])
            kept[name] = found
            rows.append([f"everything on : {name}", figures.spread(found, ".2f"), f"≥ {target:g}"])
    figures.table(["within a round, for each core", "min / median / max", "to reach"], rows)
    for name, found in kept.items():
        what = f"{size}: everything on : {name}"
        known = [value for value in found if value == value]
        middle = statistics.median(known) if known else float("nan")
        figures.verdict(what, middle, TARGETS[name], least=True)
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--only", nargs="*", default=[], help="ways, by the beginning of a name")
    parser.add_argument("--keep", choices=["yes", "no"], default="yes", help="the JSON")
    wanted = parser.parse_args()
    makers = {
        name: make
        for name, make in ways.ALL.items()
        if not wanted.only or any(name.startswith(each) for each in wanted.only)
    }
    print(f"{figures.machine()}.")
    print(f"{wanted.rounds} rounds, {wanted.clients} clients, {wanted.seconds:g} s each way.")
    kept: dict[str, Any] = {"clients": wanted.clients, "seconds": wanted.seconds}
    with (
        ways.temporary() as top,
        ways.upstream(top) as up,
        ways.several(makers, up, top) as (found, lacking),
    ):
        for size, characters in SIZES.items():
            runs = measure(
                list(found), characters, wanted.rounds, wanted.seconds, wanted.clients, top
            )
            told = report(size, runs)
            kept[size] = {
                "ratios": told,
                "runs": {
                    name: [
                        {
                            "rps": r.rps,
                            "rps_core": r.rps_core,
                            "cpu_us": r.cpu_us,
                            "p50_ms": r.p50_ms,
                            "p99_ms": r.p99_ms,
                        }
                        for r in of
                    ]
                    for name, of in runs.items()
                },
            }
        kept["left_out"] = lacking
    if wanted.keep == "yes":
        figures.keep("throughput", kept)


if __name__ == "__main__":
    main()
