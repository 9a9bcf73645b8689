"""Limits, budgets and the ledger under load, counted: what `README.md` beside this file quotes.

    .venv/bin/python scripts/bench/limits.py [at-once] [kills] [overshoot]

at-once     1,000 requests at once against a limit of 100: one process, and two on one store
kills       1,000 requests in all, the proxy killed (SIGKILL) at random points of them
overshoot   200 callers, who go on until a hard budget is used up

Real proxies, real sockets, a small upstream here. Nothing is asserted: what was counted is printed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import re
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from scripts.bench import chats  # noqa: E402
from scripts.bench.ways import BIN, free_port, until_healthy  # noqa: E402
from tests.crowd import crowd, post  # noqa: E402

MODEL = "bench-1"
PRICES = [{"provider": "openai", "model": MODEL, "input_mtok": 1, "output_mtok": 10}]
"""A token out is 10,000 nano-dollars."""
PIECES_S = 0.01


# --- a provider -----------------------------------------------------------------------------------


class Upstream(chats.Chats):
    """Answers chats with a random number of tokens, whole or in pieces of ten."""

    hurry = 1.0
    """What its pauses are multiplied by."""
    size = 5.5
    """Logarithm of the mean of tokens: some 300."""

    def __init__(self) -> None:
        self._chance = random.Random(11)
        super().__init__()

    async def answer(self, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        tokens = max(5, int(self._chance.lognormvariate(self.size, 0.7)))
        if body.get("stream"):
            await self._stream(writer, tokens)
        else:
            await asyncio.sleep(tokens / 10 * PIECES_S * self.hurry)
            chats.whole(writer, MODEL, tokens)

    async def _stream(self, writer: asyncio.StreamWriter, tokens: int) -> None:
        writer.write(chats.STREAM)
        choice = {"index": 0, "delta": {"content": "four"}}
        piece = chats.piece({"model": MODEL, "choices": [choice], "usage": None})
        for at in range(0, tokens, 10):
            await asyncio.sleep(PIECES_S * self.hurry)
            for _ in range(min(10, tokens - at)):
                writer.write(piece)
            await writer.drain()
        writer.write(chats.piece({"model": MODEL, "choices": [], "usage": chats.usage(tokens)}))
        done = b"data: [DONE]\n\n"
        writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(done), done))


# --- proxies --------------------------------------------------------------------------------------


class Proxy:
    """Arguments:
    code: folder from which the program is imported.
    """

    def __init__(
        self,
        folder: Path,
        upstream: Upstream,
        config: dict[str, Any],
        *,
        code: Path | None = None,
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        settings = {
            "listen": f"127.0.0.1:{self.port}",
            "prices": PRICES,
            "providers": {"openai": {"upstream": f"http://127.0.0.1:{upstream.port}"}},
            "logging": {"console": False},
            **config,
        }
        path = folder / f"config-{self.port}.yaml"
        path.write_text(yaml.safe_dump(settings))
        output = (folder / f"output-{self.port}.txt").open("wb")
        self.process = subprocess.Popen(
            [str(BIN / "lmk"), "serve", "--config", path.name],
            cwd=folder,
            env={
                "PATH": "/usr/bin:/bin",
                "HOME": str(folder),
                "LLAMAKEY_HOME": str(folder / "data"),
                "OPENAI_API_KEY": "sk-real-" + "r" * 40,
                **({} if code is None else {"PYTHONPATH": str(code)}),
            },
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        until_healthy(self.process, self.port, folder)
        found = re.search(r"sk-lmk-[\w-]+", (folder / "llamakey_local.env").read_text())
        assert found
        self.key = found[0]

    def chat(self, **parts: Any) -> bytes:
        body = json.dumps({"model": MODEL, "messages": [{"content": "x" * 100}], **parts}).encode()
        return post("/openai/v1/chat/completions", self.key, body)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)


def query(folder: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(folder / "data" / "llamakey.db")) as connection:
        return connection.execute(sql).fetchall()


def settled(folder: Path) -> None:
    while query(folder, "SELECT count(*) FROM ledger WHERE open = 1") != [(0,)]:
        time.sleep(0.05)


@contextmanager
def place() -> Iterator[tuple[Path, Upstream]]:
    with tempfile.TemporaryDirectory(prefix="llamakey-bench-") as folder:
        yield Path(folder), Upstream()


# --- runs -----------------------------------------------------------------------------------------


def at_once() -> None:
    everybody = {"limits": [{"requests": 100, "per": "day"}]}
    for processes in (1, 2):
        with place() as (folder, upstream):
            proxies = [Proxy(folder, upstream, {"everybody": everybody}) for _ in range(processes)]
            # so that each has a part
            told = crowd([each.url for each in proxies], proxies[0].chat(), 40)
            told += crowd([each.url for each in proxies], proxies[0].chat(), 960)
            settled(folder)
            counts = dict(Counter(each.status for each in told))
            rows = query(folder, "SELECT process, count(*) FROM ledger GROUP BY process")
            shares = sorted(count for _, count in rows)
            print(f"at once, {processes} process(es): answers {counts}; rows by process {shares}")
            for each in proxies:
                each.stop()


def kills(requests: int = 1000, batch: int = 100) -> None:
    caps = {
        "limits": [{"tokens": 10**9, "per": "day"}, {"concurrent": 10**4}],
        "budgets": [{"spend": 10**4, "per": "month"}],
    }
    chance = random.Random(5)
    with place() as (folder, upstream):
        answered: set[str] = set()
        whole = sent = 0
        proxy = Proxy(folder, upstream, {"everybody": caps})
        while sent < requests:
            streams = bool(chance.randrange(2))
            told = crowd(
                [proxy.url],
                proxy.chat(stream=streams),
                batch,
                after=chance.randrange(1, batch),
                then=proxy.process.kill,
            )
            proxy.process.wait()
            sent += batch
            answered |= {each.id for each in told if each.status == 200}
            whole += sum(each.whole for each in told if each.status == 200)
            proxy = Proxy(folder, upstream, {"everybody": caps})
        crowd([proxy.url], proxy.chat(), 1)
        settled(folder)
        ids = [id for (id,) in query(folder, "SELECT id FROM ledger")]
        [(rows, tokens, cost)] = query(
            folder,
            "SELECT count(*), sum(input_tokens + output_tokens), sum(cost_nusd) FROM ledger",
        )
        killed = query(folder, "SELECT count(*) FROM ledger WHERE end = 'the proxy was killed'")
        sums = {
            json.loads(scope)[0]: (settled_, reserved)
            for scope, settled_, reserved in query(
                folder, "SELECT scope, sum(settled), sum(reserved) FROM counter GROUP BY scope"
            )
        }
        print(
            f"kills: {sent} requests, {sent // batch} kills; {len(answered)} answers begun, "
            f"{whole} whole; {rows} rows, {len(ids) - len(set(ids))} of them double, "
            f"{killed[0][0]} closed as killed; answered and not in the ledger: "
            f"{len(answered - set(ids))}; reserved after the restart: "
            f"{sum(reserved for _, reserved in sums.values())}; counters = sums of rows: "
            f"{sums['tokens'][0] == tokens and sums['nusd'][0] == cost}; file: "
            f"{query(folder, 'PRAGMA integrity_check')[0][0]}"
        )
        proxy.stop()


def overshoot(callers: int = 200) -> None:
    for name, streams, cut in (
        ("streams that are ended", True, True),
        ("streams that are not", True, False),
        ("answers that do not stream", False, True),
    ):
        with place() as (folder, upstream):
            budget = 5.0
            config = {
                "everybody": {"budgets": [{"spend": budget, "per": "total"}]},
                "metering": {"cut_streams": cut},
            }
            proxy = Proxy(folder, upstream, config)
            request = proxy.chat(stream=streams)
            counts: Counter[int] = Counter()
            while not counts[403]:
                counts += Counter(each.status for each in crowd([proxy.url], request, callers))
            settled(folder)
            costs = [cost / 1e9 for (cost,) in query(folder, "SELECT cost_nusd FROM ledger")]
            over = sum(costs) - budget
            print(
                f"overshoot, {callers} callers, {name}: budget {budget:.2f}, spent "
                f"{sum(costs):.4f}, over by {over:+.4f} ({over / budget:+.2%}), which is "
                f"{over / statistics.mean(costs):+.1f} mean answers; "
                f"answers {dict(sorted(counts.items()))}"
            )
            proxy.stop()


def main() -> int:
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # of clients that were cut off
    chosen = sys.argv[1:] or ["at-once", "kills", "overshoot"]
    runs = {"at-once": at_once, "kills": kills, "overshoot": overshoot}
    for name in chosen:
        runs[name]()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
