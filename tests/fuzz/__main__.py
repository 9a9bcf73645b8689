"""`python -m tests.fuzz --seconds 600 --seed 1`: exits 1 when it has found something.

--only N      one connection of a seed again (`--seed S --only N`, as a finding names it)
--mode MODE   lmk (the default) or mitmdump
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import tempfile
from pathlib import Path

from tests.fakes import World
from tests.fuzz.runner import fuzz


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--only", type=int)
    parser.add_argument("--at-once", type=int, default=24)
    parser.add_argument("--mode", choices=("lmk", "mitmdump"), default="lmk")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, World(Path(folder, "world")) as world:
        report = asyncio.run(
            fuzz(
                world,
                Path(folder, "proxy"),
                seconds=given.seconds,
                seed=given.seed,
                at_once=given.at_once,
                only=given.only,
                mode=given.mode,
            )
        )
    print(report)
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())
