"""Many connections against a live proxy, and the verdict on each.

What must hold: the bytes at the provider, read by h11, are the request that was judged; one
credential travels, the real one; each request gets one answer, its own, in order; no real key
reaches a client in any form; nothing hangs; the process stays; each request is booked once.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from tests import canary
from tests.fakes import World
from tests.fuzz.answers import Plan, plan_for
from tests.fuzz.client import Answer, Client, End, NotHttp
from tests.fuzz.generators import PROVIDERS, Ask, ask, mutate
from tests.fuzz.pieces import split
from tests.fuzz.provider import NONCE, Arrival, Provider
from tests.harness import Mode, Proxy, start

DEADLINE_S = 40
"""Longer than any limit below: a connection that is not done by then hangs."""
LIMITS = {
    "head_timeout_s": 3.0,
    "body_timeout_s": 3.0,
    "keepalive_timeout_s": 4.0,
    "answer_timeout_s": 5.0,
    "pool_idle_s": 2.0,
}
LINGER_S = 2.0
"""So long does the proxy read on behind a last answer; then a reset may overtake it."""
MOST_FINDINGS = 20
MOST_SLOW = 0.05
"""The part of requests that this side may be too slow for; on a busy machine some are."""


@dataclass(slots=True)
class Report:
    """What a run came to."""

    seed: int
    connections: int = 0
    requests: int = 0
    mutated: int = 0
    arrived: int = 0
    slow: int = 0
    """Requests that this side was too slow with, so that a limit ended them."""
    seconds: float = 0
    statuses: Counter[str] = field(default_factory=Counter)
    plans: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    growth_mib: float = 0

    def __str__(self) -> str:
        return "\n".join(
            (
                f"seed {self.seed}: {self.connections} connections, {self.requests} requests "
                f"({self.mutated} mutated, {self.slow} slow), {self.arrived} at providers, "
                f"{self.seconds:.0f} s, "
                f"memory {self.growth_mib:+.0f} MiB",
                "statuses  " + ", ".join(f"{k}: {n}" for k, n in sorted(self.statuses.items())),
                "answers   " + ", ".join(f"{k}: {n}" for k, n in sorted(self.plans.items())),
                f"findings  {len(self.findings)}",
                *self.findings,
            )
        )


class Run:
    """One run against one proxy. `connection` may be called by itself, to look at one again."""

    def __init__(self, proxy: Proxy, providers: Mapping[str, Provider], seed: int) -> None:
        self.proxy = proxy
        self.providers = providers
        self.report = Report(seed)
        self._forms = [form for p in providers.values() for form in canary.forms(p.key)]
        self._numbers = itertools.count()
        self.expected: dict[str, Ask] = {}
        """Requests that were sent whole and not mutated, by nonce."""

    def finding(self, where: str, text: str) -> None:
        self.report.findings.append(f"{where}: {text}")

    async def run(self, seconds: float, at_once: int) -> None:
        """Opens connections until the time is over."""
        end = time.monotonic() + seconds

        async def work() -> None:
            while time.monotonic() < end and len(self.report.findings) < MOST_FINDINGS:
                await self.connection(next(self._numbers))

        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(work())

    async def connection(self, number: int) -> None:
        """One connection: its requests, its answers, its end."""
        where = f"--seed {self.report.seed} --only {number}"
        random = Random(f"{self.report.seed} {number}")
        asks = [ask(random, self.proxy.local_key) for _ in range(random.choice((1, 1, 2, 3, 6)))]
        if random.random() < 0.45:
            asks[-1] = mutate(random, asks[-1])
        self.report.connections += 1
        self.report.requests += len(asks)
        self.report.mutated += asks[-1].mutated
        opened_s = time.monotonic()
        try:
            async with asyncio.timeout(DEADLINE_S):
                client = await Client.connect(self.proxy.port)
        except (OSError, TimeoutError) as error:
            self.finding(where, f"no connection: {error!r}")
            return
        try:
            async with asyncio.timeout(DEADLINE_S):
                await self._talk(where, random, client, asks, opened_s)
        except TimeoutError:
            self.finding(where, f"hangs; so far {bytes(client.all[-300:])!r}")
        except NotHttp as error:
            self.finding(where, f"not HTTP: {error}")
        finally:
            client.writer.transport.abort()
            self._search(where, bytes(client.all))

    def _search(self, where: str, got: bytes) -> None:
        """No real key in anything that a client got, in whatever form."""
        if any(form in got for form in self._forms):
            self.finding(where, f"a real key came: {got[:300]!r}")

    async def _talk(
        self, where: str, random: Random, client: Client, asks: list[Ask], opened_s: float
    ) -> None:
        leaves = random.random() < 0.07
        ahead = random.random() < 0.4
        if leaves:
            raw = b"".join(each.raw for each in asks)
            await self._send(random, client, raw[: random.randrange(len(raw) + 1)])
            if random.random() < 0.5:
                await asyncio.sleep(random.random() * 0.05)
            return
        whole = [each for each in asks if not each.mutated]
        self.expected.update((each.nonce, each) for each in whole)
        try:
            await self._ask(where, random, client, asks, opened_s, ahead=ahead)
        finally:
            for each in whole:
                each.shed()

    async def _ask(
        self,
        where: str,
        random: Random,
        client: Client,
        asks: list[Ask],
        opened_s: float,
        *,
        ahead: bool,
    ) -> None:
        sending: asyncio.Task[None] | None = None
        early = False
        # when the proxy was surely busy with what was before, and when this request began
        before_s, begun_s = opened_s, time.monotonic()
        if ahead:
            raw = b"".join(each.raw for each in asks)
            sending = asyncio.create_task(self._send(random, client, raw))
        try:
            for each in asks:
                if not ahead:
                    begun_s = time.monotonic()
                    sending = asyncio.create_task(self._send(random, client, each.raw))
                if each.mutated:
                    await self._any(where, client, asks)
                    return
                try:
                    answer = await client.answer(each.method)
                except End:
                    self._forget(asks[asks.index(each) :])
                    if self._was_slow(before_s, LINGER_S):
                        return
                    # An answer that came before its upload ends the connection; and where an
                    # answer is cut, the reset may overtake what was passed of it.
                    if not early and self._plan(each).outcome not in ("cut", "any"):
                        took_s = time.monotonic() - before_s
                        text = f"no answer to {each.method} {each.nonce} within {took_s:.2f} s"
                        self.finding(where, text)
                    return
                self.report.statuses[f"{answer.status}{' ours' if answer.denial else ''}"] += 1
                if answer.denial and self._ended_by_a_limit(each, answer, begun_s):
                    self._forget(asks[asks.index(each) :])
                    return
                self._judge(where, each, answer)
                early = self._plan(each).early
                before_s = begun_s
                if answer.closes:
                    self._forget(asks[asks.index(each) + 1 :])
                    rest = await client.rest()
                    if rest:
                        self.finding(where, f"bytes behind a last answer: {rest[:100]!r}")
                    return
        finally:
            if sending is not None:
                sending.cancel()

    def _forget(self, asks: list[Ask]) -> None:
        """Nothing is known of these requests: they were not answered."""
        for each in asks:
            self.expected.pop(each.nonce, None)

    def _ended_by_a_limit(self, wish: Ask, answer: Answer, begun_s: float) -> bool:
        """Whether the client, or the provider, was too slow with an honest request."""
        if answer.status == 408:
            limit_s = min(LIMITS["head_timeout_s"], LIMITS["body_timeout_s"])
            return self._was_slow(begun_s, limit_s)
        silent = self._plan(wish).silent
        if answer.status != 504 or silent:
            return False
        return self._was_slow(begun_s, LIMITS["answer_timeout_s"])

    def _was_slow(self, since_s: float, limit_s: float) -> bool:
        """Whether a limit may be over that began then, or later."""
        slow = time.monotonic() - since_s >= limit_s
        self.report.slow += slow
        return slow

    async def _any(self, where: str, client: Client, asks: list[Ask]) -> None:
        """A mutated request: whatever comes is HTTP, and answers in order what was asked."""
        await asyncio.wait_for(self._quiet(client), DEADLINE_S)
        got = bytes(client.all)
        marks = re.findall(rb"X-Fz: (fz-[0-9a-f]{16})", got)
        order = [each.nonce.encode() for each in asks]
        known = [mark for mark in marks if mark in order]
        crossed = known != sorted(known, key=order.index) or len(set(marks)) < len(marks)
        # the same request may stand twice in what a mutation made
        if crossed and asks[-1].raw.count(asks[-1].nonce.encode()) < 2:
            self.finding(where, f"answers out of order: {marks}")
        if got and not got.startswith(b"HTTP/1.1 "):
            self.finding(where, f"no answer: {got[:80]!r}")

    async def _quiet(self, client: Client) -> None:
        """Reads until the proxy has nothing more to say: at the latest its limits end it."""
        await client.rest()

    async def _send(self, random: Random, client: Client, raw: bytes) -> None:
        with contextlib.suppress(OSError):
            for piece in split(random, raw):
                client.writer.write(piece)
                await client.writer.drain()
                if random.random() < 0.3:
                    await asyncio.sleep(0)

    # ── verdicts ──────────────────────────────────────────────────────────────────────────────

    def _judge(self, where: str, wish: Ask, answer: Answer) -> None:
        """The answer to a request that was not mutated."""

        def wrong(text: str) -> None:
            got = f"{answer.status} {answer.headers} {answer.body[:150]!r} whole={answer.whole}"
            self.finding(where, f"{wish.method} {wish.nonce}: {text}; got {got}")

        arrivals = [each for p in self.providers.values() for each in p.of(wish.nonce)]
        if wish.denied:
            if arrivals:
                wrong("it must be refused, and came to a provider")
            elif not answer.denial or answer.status not in wish.denied:
                wrong(f"it must be refused by {wish.denied}")
            return
        if any(form in text for text in unpacked(answer.body) for form in self._forms):
            wrong("a real key came in a body")
        plan = self._plan(wish)
        if answer.denial:
            # an idle connection that the provider has just closed: a body that was streamed is gone
            streamed = not wish.judged and (wish.body or b"hunked\r\n" in wish.raw)
            stale = streamed and not any(arrival.answered for arrival in arrivals)
            if answer.status not in (502, 504):
                wrong("a denial of what is allowed")
            elif plan.outcome == "whole" and not stale:
                wrong(f"a denial, though the provider answered well ({plan.name})")
            return
        if answer.header("x-fz") != wish.nonce:
            wrong("the answer to another request")
        elif plan.outcome == "fault":
            wrong(f"an answer, though there was none ({plan.name})")
        elif plan.outcome == "whole":
            if (answer.status, answer.body, answer.whole) != (plan.status, plan.body, True):
                wrong(f"not as the provider answered ({plan.name}, {len(plan.body)} bytes)")
        elif plan.outcome == "cut":
            # a beginning of the key at the very end of what came does not pass
            if not plan.body.startswith(answer.body.rstrip(b"*")):
                wrong("other bytes than the provider's")
            elif answer.whole and not answer.until_close:
                wrong(f"it seems whole ({plan.name})")

    def _plan(self, wish: Ask) -> Plan:
        provider = self.providers.get(wish.provider)
        return plan_for(wish.nonce, wish.method, provider.key if provider else "")

    def settle(self) -> None:
        """After all: what came to the providers, and what was booked."""
        for provider in self.providers.values():
            self.report.findings += provider.faults
            self.report.plans += provider.plans
            self.report.arrived += len(provider.arrivals)
            for arrival in provider.arrivals:
                self._arrival(arrival)
        if self.report.slow > max(5, self.report.requests * MOST_SLOW):
            self.finding("this side", f"was too slow for {self.report.slow} requests")
        output = self.proxy.output()
        if self.proxy.process.poll() is not None:
            self.finding("process", f"ended with {self.proxy.process.returncode}")
        if "Traceback" in output or "failed:" in output:
            at = max(output.find("Traceback"), output.find("failed:"))
            self.finding(
                "process", f"an exception in its output: {output[max(0, at - 300) :][:2500]}"
            )
        self._booked()

    def _arrival(self, arrival: Arrival) -> None:
        found = NONCE.search(arrival.target)
        wish = self.expected.get(found[0]) if found else None
        if wish is None:
            return
        where = f"{wish.method} {wish.nonce} at {arrival.provider}"
        if (arrival.provider, arrival.method, arrival.target) != (
            wish.provider,
            wish.method,
            wish.target,
        ):
            self.finding(where, f"judged as {wish.target}, came as {arrival}")
        if arrival.complete and (arrival.length, arrival.digest) != (wish.length, wish.digest):
            self.finding(where, f"{wish.length} bytes of body, {arrival.length} came")
        own = {"host", "authorization", "x-api-key", "accept-encoding"}
        own |= {"content-length", "transfer-encoding"}
        came = [(name, value) for name, value in arrival.headers if name.lower() not in own]
        if came != wish.headers:
            self.finding(where, f"headers {came}, not {wish.headers}")

    def _booked(self) -> None:
        """Each request whose answer was read stands in the log once, as it was judged."""
        lines: dict[str, list[dict[str, Any]]] = {}
        for line in self.proxy.log():
            for mark in NONCE.findall(line.get("path", "")):
                lines.setdefault(mark, []).append(line)
        for mark, wish in self.expected.items():
            if wish.judged or wish.unread:
                continue  # its nonce stands in the query, or nowhere in the log
            found = lines.get(mark, [])
            if len(found) != 1:
                self.finding(f"{wish.method} {mark}", f"booked {len(found)} times: {found}")
            elif not wish.denied and found[0]["path"] != wish.target.partition("?")[0]:
                self.finding(f"{wish.method} {mark}", f"booked as {found[0]['path']}")


def unpacked(body: bytes) -> Iterator[bytes]:
    """A body, and as much as it unpacks to in each packing."""
    yield body
    for wbits in (31, zlib.MAX_WBITS, -zlib.MAX_WBITS):
        with contextlib.suppress(zlib.error):
            yield zlib.decompressobj(wbits).decompress(body)


async def fuzz(
    world: World,
    folder: Path,
    *,
    seconds: float,
    seed: int,
    at_once: int = 24,
    only: int | None = None,
    mode: Mode = "lmk",
) -> Report:
    """Starts a proxy in `folder` and runs against it.

    Arguments:
        only: the number of one connection to look at again.
    """
    import psutil

    header = {"anthropic": ("x-api-key", "{}")}
    providers = {}
    for name in PROVIDERS:
        field_name, form = header.get(name, ("authorization", "Bearer {}"))
        key = world.key(name)
        providers[name] = Provider(name, field_name, form.format(key), key)
        await providers[name].start()
    config = {
        "limits": LIMITS,
        "providers": {
            name: {"upstream": f"http://127.0.0.1:{provider.port}", "ca": None}
            for name, provider in providers.items()
        },
    }
    # One user alone: then bodies of unknown endpoints are nobody else's business, and streamed (who
    # starts `lmk` gets a key too, in the name of their account).
    alone = {"LOGNAME": "alice"}
    proxy = await asyncio.to_thread(start, world, folder, mode, config=config, env=alone)
    run = Run(proxy, providers, seed)
    begun = time.monotonic()
    try:
        if only is not None:
            await run.connection(only)
        else:
            await run.run(min(seconds, 5), at_once)  # its caches and pools filled
            process = psutil.Process(proxy.process.pid)
            before = process.memory_info().rss
            await run.run(seconds - 5, at_once)
            run.report.growth_mib = (process.memory_info().rss - before) / 2**20
        await asyncio.sleep(1)  # the log's last lines
        run.settle()
        if leaks := proxy.leaks():
            run.finding("files", str(leaks))
    finally:
        run.report.seconds = time.monotonic() - begun
        await asyncio.to_thread(proxy.stop)
        for provider in providers.values():
            await provider.stop()
    return run.report
