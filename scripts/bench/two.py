"""Two workers against one: requests a second of the whole, and for each core that it takes.

    .venv/bin/python scripts/bench/two.py [--rounds 5]

Where upstream and clients stand on the same few cores, as here, the whole can't double; what a
request costs in processor time tells whether two workers stand in each other's way.
"""

from __future__ import annotations

import argparse
import functools
import os
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from scripts.bench import figures, load, ways  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--clients", type=int, default=32)
    wanted = parser.parse_args()
    print(f"{figures.machine()}.\n")
    makers: dict[str, ways.Maker] = {
        f"{count} worker{'s' if count > 1 else ''}": functools.partial(
            ways.lmk, everything=True, arguments=("--workers", str(count))
        )
        for count in (1, 2)
    }
    content = ways.body(ways.SMALL)
    runs: dict[str, list[load.Run]] = {name: [] for name in makers}
    with (
        ways.temporary() as top,
        ways.upstream(top) as up,
        ways.several(makers, up, top) as (found, lacking),
    ):
        if len(found) == 2:
            for number in range(wanted.rounds + 1):
                for way in found[number % 2 :] + found[: number % 2]:
                    run = load.wrk(
                        way, content, top, clients=wanted.clients, seconds=wanted.seconds
                    )
                    if number:
                        runs[way.name].append(run)
    if lacking or not all(runs.values()):
        raise SystemExit(f"not measured: {lacking}")
    rows = [
        [
            name,
            figures.spread([r.rps for r in of]),
            figures.spread([r.cpu_us for r in of]),
            figures.spread([r.cpu_s / r.seconds for r in of], ".2f"),
        ]
        for name, of in runs.items()
    ]
    figures.table(["", "requests/s", "CPU µs a request", "cores taken"], rows)
    one, both = runs.values()
    whole = figures.ratios([r.rps for r in both], [r.rps for r in one])
    cost = figures.ratios([r.cpu_us for r in one], [r.cpu_us for r in both])
    print(f"two : one, requests/s {figures.spread(whole, '.2f')}")
    print(f"two : one, for each core {figures.spread(cost, '.2f')}")
    capacity = 2 * statistics.median(cost)
    figures.verdict(
        "two workers on two free cores, from what a request costs", capacity, 1.7, least=True
    )
    if (os.cpu_count() or 1) >= 4:
        figures.verdict("two workers : one", statistics.median(whole), 1.7, least=True)
    figures.keep("two", {"ratios": whole, "for_each_core": cost})


if __name__ == "__main__":
    main()
