"""Requests a second and added latency: direct, through `lmk serve`, and through stock mitmdump.

    .venv/bin/python scripts/bench/proxy.py [--rounds 7] [--seconds 2] [--clients 16]

Everything runs on this machine, on loopback, without TLS: a tiny upstream in a process of its own,
the two proxies, and the clients here. In each round every way is measured once, one after the
other, the first one moving on; so what disturbs the machine disturbs all of them, and only what is
compared within a round counts. README.md beside this file says what the figures mean.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import os
import platform
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

REAL = "sk-real-" + "r" * 40
LOCAL = "sk-local-" + "l" * 40
"""What the stock addon takes for a local key. LlamaKey makes one of its own."""
PATH = "/v1/chat/completions"
BODY = json.dumps(
    {"model": "m", "messages": [{"role": "user", "content": "x" * 230}], "max_tokens": 99}
).encode()
ANSWER = json.dumps({"id": "chatcmpl-1", "choices": [{"message": {"content": "y" * 530}}]}).encode()
BIN = Path(sys.executable).parent
START_S = 30

STOCK = f"""\
from mitmproxy import http

def request(flow):
    if flow.request.headers.get("authorization") != "Bearer {LOCAL}":
        flow.response = http.Response.make(401)
        return
    flow.request.headers["authorization"] = "Bearer {REAL}"
    flow.request.path = flow.request.path.removeprefix("/openai")
"""


# --- both ends ------------------------------------------------------------------------------------


class Upstream(asyncio.Protocol):
    """Answers each request that carries the real key."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._got = bytearray()

    def data_received(self, data: bytes) -> None:
        self._got += data
        while (message := take(self._got)) is not None:
            good = REAL.encode() in message and f" {PATH} ".encode() in message
            status, body = (b"200 OK", ANSWER) if good else (b"401 Unauthorized", b"{}")
            self._transport.write(
                b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
                % (status, len(body), body)
            )


class Client(asyncio.Protocol):
    """Sends a request when the one before is answered, until told to stop."""

    def __init__(self, request: bytes, tally: Tally) -> None:
        self._request = request
        self._tally = tally
        self._got = bytearray()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self._got += data
        if (answer := take(self._got)) is None:
            return
        now_s = time.perf_counter()
        if not answer.startswith(b"HTTP/1.1 200") or ANSWER not in answer:
            self._end(RuntimeError(f"answered {bytes(answer[:200])!r}"))
            return
        self._tally.latencies_s.append(now_s - self._sent_s)
        if now_s < self._tally.end_s:
            self._send()
        else:
            self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(RuntimeError(f"closed midway: {exc}"))

    def _send(self) -> None:
        self._sent_s = time.perf_counter()
        self._transport.write(self._request)

    def _end(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error) if error else self.done.set_result(None)
        self._transport.close()


@dataclass(slots=True)
class Tally:
    end_s: float
    latencies_s: list[float] = field(default_factory=list)


_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def take(got: bytearray) -> bytes | None:
    """The first message in `got`, which loses it; None while it is not whole."""
    head = got.find(b"\r\n\r\n")
    if head < 0:
        return None
    length = _LENGTH.search(got, 0, head + 2)
    end = head + 4 + (int(length[1]) if length else 0)
    if len(got) < end:
        return None
    message = bytes(got[:end])
    del got[:end]
    return message


async def serve_upstream() -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    # Ends with the process that started it.
    await asyncio.to_thread(sys.stdin.read)


async def load(port: int, request: bytes, clients: int, seconds: float) -> tuple[float, Tally]:
    """Requests a second, and how long each took."""
    begin_s = time.perf_counter()
    tally = Tally(begin_s + seconds)
    loop = asyncio.get_running_loop()
    made = [
        loop.create_connection(lambda: Client(request, tally), "127.0.0.1", port)
        for _ in range(clients)
    ]
    running = [client for _, client in await asyncio.gather(*made)]
    await asyncio.wait_for(asyncio.gather(*(c.done for c in running)), seconds + 30)
    return len(tally.latencies_s) / (time.perf_counter() - begin_s), tally


# --- the three ways -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Way:
    name: str
    port: int
    request: bytes
    process: subprocess.Popen[bytes] | None = None

    def cpu_s(self) -> float:
        """Processor time that the proxy has taken; NaN where the system does not tell."""
        try:
            assert self.process
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except (AssertionError, OSError, ValueError):
            return float("nan")


def request(path: str, key: str, port: int) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {key}\r\n"
        "Content-Type: application/json\r\nAccept: application/json\r\nUser-Agent: bench\r\n"
        f"Content-Length: {len(BODY)}\r\n\r\n"
    ).encode() + BODY


@contextlib.contextmanager
def child(command: Sequence[str], folder: Path, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**kept, "HOME": str(folder), **env},
        stdin=subprocess.PIPE,
        stdout=(folder / "output.txt").open("wb"),
        stderr=subprocess.STDOUT,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(START_S)


def until_it_answers(process: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    end_s = time.monotonic() + START_S
    while time.monotonic() < end_s and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            connection.request("GET", "/_llamakey/health")
            connection.getresponse().read()
            return
        except OSError:
            time.sleep(0.05)
        finally:
            connection.close()
    raise SystemExit(f"no proxy came up:\n{(folder / 'output.txt').read_text()}")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@contextlib.contextmanager
def ways() -> Iterator[list[Way]]:
    with contextlib.ExitStack() as stack:
        top = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="llamakey-bench-")))
        folders = [top / name for name in ("upstream", "lmk", "stock")]
        for folder in folders:
            folder.mkdir()
        enter = stack.enter_context
        enter(child([sys.executable, __file__, "--upstream"], folders[0]))
        told = folders[0] / "output.txt"
        end_s = time.monotonic() + START_S
        while not told.read_text().endswith("\n") and time.monotonic() < end_s:
            time.sleep(0.02)
        up = int(told.read_text())
        direct = Way("direct", up, request(PATH, REAL, up))

        port = free_port()
        (folders[1] / "config.yaml").write_text(
            f"listen: 127.0.0.1:{port}\n"
            f"providers: {{openai: {{upstream: 'http://127.0.0.1:{up}'}}}}\n"
        )
        env = {"OPENAI_API_KEY": REAL, "LLAMAKEY_HOME": str(folders[1] / "data")}
        process = enter(child([str(BIN / "lmk"), "serve"], folders[1], **env))
        until_it_answers(process, port, folders[1])
        found = re.search(r"sk-lmk-[\w-]+", (folders[1] / "llamakey_local.env").read_text())
        assert found
        lmk = Way("lmk serve", port, request(f"/openai{PATH}", found[0], port), process)

        port = free_port()
        (folders[2] / "swap.py").write_text(STOCK)
        command = [str(BIN / "mitmdump"), "-q", "-s", "swap.py", "--listen-host", "127.0.0.1"]
        command += ["-p", str(port), "--mode", f"reverse:http://127.0.0.1:{up}"]
        process = enter(child(command, folders[2]))
        until_it_answers(process, port, folders[2])
        stock = Way("stock mitmdump", port, request(f"/openai{PATH}", LOCAL, port), process)
        yield [direct, lmk, stock]


# --- figures --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one way in one round."""

    rps: float
    rps_core: float
    """Requests for each second of the proxy's own processor time."""
    p50_ms: float
    """With all clients at once."""
    p99_ms: float
    alone_ms: float
    """Median with one client."""


async def measure(way: Way, clients: int, seconds: float) -> Figures:
    _, alone = await load(way.port, way.request, 1, seconds / 2)
    before_s = way.cpu_s()
    rps, crowd = await load(way.port, way.request, clients, seconds)
    cpu_s = way.cpu_s() - before_s
    cuts = statistics.quantiles(crowd.latencies_s, n=100)
    return Figures(
        rps=rps,
        rps_core=len(crowd.latencies_s) / cpu_s if cpu_s else float("nan"),
        p50_ms=cuts[49] * 1000,
        p99_ms=cuts[98] * 1000,
        alone_ms=statistics.median(alone.latencies_s) * 1000,
    )


def spread(values: Sequence[float], form: str = ",.0f") -> str:
    """min / median / max"""
    if any(value != value for value in values):
        return "-"
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{low:{form}} / **{middle:{form}}** / {high:{form}}"


def machine() -> str:
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
        cpu = found[1].strip() if found else cpu
    idle = f"load {os.getloadavg()[0]:.1f} before the start"
    return (
        f"{cpu}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}, {idle}; "
        f"Python {platform.python_version()}, mitmproxy {version('mitmproxy')}, "
        f"LlamaKey {version('llamakey')}"
    )


def report(rounds: Sequence[dict[str, Figures]]) -> None:
    print("| | requests/s | requests/s for each core of the proxy | p50 ms | p99 ms |")
    print("|---|---|---|---|---|")
    for name in rounds[0]:
        of = [one[name] for one in rounds]
        cells = [spread([f.rps for f in of]), spread([f.rps_core for f in of])]
        cells += [spread([f.p50_ms for f in of], ".2f"), spread([f.p99_ms for f in of], ".2f")]
        print(f"| {name} | {' | '.join(cells)} |")
    print("\n| within a round | min / median / max |\n|---|---|")
    lmk, stock, direct = (
        [one[n] for one in rounds] for n in ("lmk serve", "stock mitmdump", "direct")
    )
    pairs = list(zip(lmk, stock, direct, strict=True))
    rows = {
        "lmk serve : stock, requests/s": ([a.rps / b.rps for a, b, _ in pairs], ".1f"),
        "lmk serve : stock, for each core": ([a.rps_core / b.rps_core for a, b, _ in pairs], ".1f"),
        "lmk serve : direct, requests/s": ([a.rps / c.rps for a, _, c in pairs], ".2f"),
        "added by lmk serve, one client, ms": (
            [a.alone_ms - c.alone_ms for a, _, c in pairs],
            ".2f",
        ),
        "added by stock, one client, ms": ([b.alone_ms - c.alone_ms for _, b, c in pairs], ".2f"),
    }
    for name, (values, form) in rows.items():
        print(f"| {name} | {spread(values, form)} |")


async def run(rounds: int, clients: int, seconds: float) -> None:
    print(f"{machine()}.\n{rounds} rounds, {clients} clients, {seconds:g} s each way.\n")
    with ways() as all_ways:
        for way in all_ways:
            await load(way.port, way.request, clients, min(1.0, seconds))  # caches, pools
        done = []
        for number in range(rounds):
            turn = number % len(all_ways)
            order = all_ways[turn:] + all_ways[:turn]
            found = {way.name: await measure(way, clients, seconds) for way in order}
            done.append({way.name: found[way.name] for way in all_ways})
    report(done)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--upstream", action="store_true", help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.upstream:
        asyncio.run(serve_upstream())
    else:
        asyncio.run(run(wanted.rounds, wanted.clients, wanted.seconds))


if __name__ == "__main__":
    main()
