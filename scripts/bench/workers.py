"""Rolling restarts under load, counted.

    .venv/bin/python scripts/bench/workers.py [restarts] [upgrades]

restarts  10,000 requests of clients that keep their connections and try nothing twice, with a
          rolling restart every second
upgrades  the same with 5,000 requests, and the program's files changed before each restart, so
          that the parent becomes the new code each time

Real proxies and sockets, a small upstream in this process. Nothing is asserted: what was counted is
printed.
"""

from __future__ import annotations

import asyncio
import collections
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from scripts.bench import figures, limits  # noqa: E402
from tests import steady  # noqa: E402

CAPS = {
    "limits": [{"requests": 10**6, "per": "hour"}, {"concurrent": 10**4}],
    "budgets": [{"spend": 10**4, "per": "month"}],
}
BODY = {"model": limits.MODEL, "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]}
CLIENTS = 48


class Restarts:
    """Has a proxy restarted again and again, a second after the last one was over at the latest."""

    def __init__(self, process: int, output: Path, before: Any = None) -> None:
        self._process = process
        self._output = output
        self._before = before

    async def run(self) -> None:
        while True:
            started_s = time.monotonic()
            done = self.done
            if self._before is not None:
                self._before()
            os.kill(self._process, signal.SIGUSR2)
            while self.done == done:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            await asyncio.sleep(max(0.0, 1.0 - (time.monotonic() - started_s)))

    @property
    def done(self) -> int:
        return self._output.read_text().count("new workers serve")


def restarts(requests: int = 10_000, *, upgrade: bool = False) -> None:
    name = "upgrades" if upgrade else "restarts"
    with limits.place() as (folder, upstream):
        upstream.hurry, upstream.size = 0.5, 3.0
        config = {"everybody": CAPS, "workers": 2, "logging": {"console": True}}
        code = folder / "code"
        if upgrade:  # a copy of the program, to be changed
            shutil.copytree(ROOT / "llamakey_addon", code / "llamakey_addon")
        running = limits.Proxy(folder, upstream, config, code=code if upgrade else None)
        output = folder / f"output-{running.port}.txt"

        def change() -> None:
            (code / "llamakey_addon" / "__init__.py").touch()

        restarting = Restarts(running.process.pid, output, change if upgrade else None)

        async def both() -> steady.Tally:
            task = asyncio.ensure_future(restarting.run())
            tally = await steady.run(
                running.url, running.key, BODY, clients=CLIENTS, requests=requests
            )
            task.cancel()
            return tally

        started_s = time.monotonic()
        tally = asyncio.run(both())
        took_s = time.monotonic() - started_s
        limits.settled(folder)
        ids = [id for (id,) in limits.query(folder, "SELECT id FROM ledger")]
        told = output.read_text()
        done = restarting.done
        [(processes,)] = limits.query(folder, "SELECT count(DISTINCT process) FROM ledger")
        print(
            f"{name}: {requests} requests in {took_s:.0f} s by {CLIENTS} clients, {done} restarts, "
            f"{processes} workers in all; answers {dict(tally.statuses)}, {tally.whole} whole, "
            f"{tally.goodbyes} with Connection: close; errors {len(tally.errors)} "
            f"{dict(collections.Counter(tally.errors).most_common(3))}; rows {len(ids)}, "
            f"answered and not in the ledger {len(set(tally.ids) - set(ids))}; "
            f"killed {told.count('killed')}"
        )
        running.stop()
        figures.keep(
            f"workers-{name}",
            {
                "requests": requests,
                "seconds": took_s,
                "restarts": done,
                "processes": processes,
                "statuses": dict(tally.statuses),
                "whole": tally.whole,
                "goodbyes": tally.goodbyes,
                "errors": tally.errors[:100],
                "rows": len(ids),
                "lost_rows": len(set(tally.ids) - set(ids)),
            },
        )


def main() -> int:
    runs = {
        "restarts": restarts,
        "upgrades": lambda: restarts(5000, upgrade=True),
    }
    for name in sys.argv[1:] or list(runs):
        runs[name]()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
