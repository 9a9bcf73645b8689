"""Clients, as processes of their own: wrk for requests, and small ones here for what wrk can't.

python load.py alone PORT COUNT new|kept < request     # one client; JSON of latencies
python load.py streams PORT COUNT RAMP_S < request     # many streams at once; JSON
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from scripts.bench.ways import Way  # noqa: E402

STREAM_S = 120


# --- wrk ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Run:
    """What wrk has seen."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    cpu_s: float
    """Of the proxy."""

    @property
    def rps(self) -> float:
        return self.requests / self.seconds

    @property
    def rps_core(self) -> float:
        return self.requests / self.cpu_s if self.cpu_s and self.requests else float("nan")

    @property
    def cpu_us(self) -> float:
        """Of the proxy, for a request."""
        return self.cpu_s / self.requests * 1e6 if self.requests else float("nan")


_LUA = """\
wrk.method = "POST"
wrk.path = "%s"
%s
local file = io.open("%s", "rb")
wrk.body = file:read("*a")
file:close()
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("FIGURES %%d %%d %%d %%d %%f %%f\\n", summary.requests, summary.duration,
    e.status, e.connect + e.read + e.write + e.timeout, latency:percentile(50),
    latency:percentile(99)))
end
"""


def wrk(way: Way, content: bytes, folder: Path, *, clients: int, seconds: float) -> Run:
    """Requests on kept connections. Raises RuntimeError where one was not answered with 200."""
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed: apt-get install nginx wrk")
    headers = {"Content-Type": "application/json", **way.headers}
    lines = "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in headers.items())
    (folder / "wrk-body").write_bytes(content)
    script = folder / "wrk.lua"
    script.write_text(_LUA % (way.path, lines, folder / "wrk-body"))
    command = [*way.inside, "wrk", "-t1", f"-c{clients}", f"-d{max(1, round(seconds))}s"]
    command += ["--timeout", "30s", "-s", str(script), f"http://127.0.0.1:{way.port}"]
    before_s = way.cpu_s()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    cpu_s = way.cpu_s() - before_s
    found = re.search(r"FIGURES (\d+) (\d+) (\d+) (\d+) (\S+) (\S+)", done.stdout)
    if found is None:
        raise RuntimeError(f"wrk failed: {done.stdout}{done.stderr}")
    requests, duration_us, bad, broken = map(int, found.groups()[:4])
    if bad or broken:
        raise RuntimeError(f"{way.name}: {bad} bad answers, {broken} broken, of {requests}")
    return Run(
        requests=requests,
        seconds=duration_us / 1e6,
        p50_ms=float(found[5]) / 1000,
        p99_ms=float(found[6]) / 1000,
        cpu_s=cpu_s,
    )


# --- one client -----------------------------------------------------------------------------------


def _whole(connection: socket.socket) -> bytes:
    """An answer with a Content-Length, or one in chunks."""
    got = bytearray()
    while True:
        data = connection.recv(65536)
        if not data:
            raise RuntimeError(f"closed midway: {bytes(got[:300])!r}")
        got += data
        end = got.find(b"\r\n\r\n")
        if end < 0:
            continue
        head = got[:end].lower()
        if not head.startswith(b"http/1.1 200"):
            raise RuntimeError(f"answered {bytes(got[:300])!r}")
        length = re.search(rb"\r\ncontent-length: *(\d+)", head)
        if length is None:
            if got.endswith(b"0\r\n\r\n"):
                return bytes(got)
        elif len(got) >= end + 4 + int(length[1]):
            return bytes(got)


def once(port: int, request: bytes, context: ssl.SSLContext | None) -> bytes:
    """One request on a connection of its own."""
    with socket.create_connection(("127.0.0.1", port)) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is None:
            plain.sendall(request)
            return _whole(plain)
        with context.wrap_socket(plain, server_hostname="localhost") as secure:
            secure.sendall(request)
            return _whole(secure)


def _alone(port: int, count: int, kept: bool) -> list[float]:
    request = sys.stdin.buffer.read()
    found = []
    connection: socket.socket | None = None
    for _ in range(count):
        begin_s = time.perf_counter()
        if connection is None:
            connection = socket.create_connection(("127.0.0.1", port))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(request)
        _whole(connection)
        found.append((time.perf_counter() - begin_s) * 1000)
        if not kept:
            connection.close()
            connection = None
            time.sleep(0.002)
    return found


def alone(way: Way, content: bytes, *, count: int, kept: bool) -> list[float]:
    """Milliseconds of requests of one client, one after the other; with `kept` on one connection,
    else each on a new one, which counts."""
    how = "kept" if kept else "new"
    found: list[float] = _client(
        way, ["alone", str(way.port), str(count), how], way.request(content)
    )
    return found


def _client(way: Way, arguments: Sequence[str], request: bytes) -> Any:
    command = [*way.inside, sys.executable, __file__, *arguments]
    done = subprocess.run(command, input=request, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{way.name}: {done.stderr.decode(errors='replace')[-1500:]}")
    return json.loads(done.stdout)


# --- streams --------------------------------------------------------------------------------------


_SENT = re.compile(rb'"at-([0-9.]+)"')


class _Stream(asyncio.Protocol):
    """Reads an event stream whose events tell when they were sent."""

    def __init__(self, request: bytes, done: asyncio.Future[None]) -> None:
        self._request = request
        self._done = done
        self._tail = b""
        self.first_ms = float("nan")
        self.late_ms: list[float] = []

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._begin_s = time.perf_counter()
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now_s = time.perf_counter()
        if self.first_ms != self.first_ms:
            self.first_ms = (now_s - self._begin_s) * 1000
            if not data.startswith(b"HTTP/1.1 200"):
                self._end(RuntimeError(f"answered {data[:300]!r}"))
                return
        data = self._tail + data
        end = 0
        for found in _SENT.finditer(data):
            self.late_ms.append((now_s - float(found[1])) * 1000)
            end = found.end()
        self._tail = data[max(end, len(data) - 60) :]
        if data.find(b"[DONE]") >= 0:
            self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(RuntimeError(f"closed midway: {exc}"))

    def _end(self, error: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(error) if error else self._done.set_result(None)
        self._transport.close()


async def _streams(port: int, count: int, ramp_s: float, request: bytes) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    streams: list[_Stream] = []
    waits: list[asyncio.Future[None]] = []
    begin_s = loop.time()

    async def one(number: int) -> None:
        await asyncio.sleep(max(0.0, begin_s + ramp_s * number / count - loop.time()))
        done: asyncio.Future[None] = loop.create_future()
        waits.append(done)
        stream = _Stream(request, done)
        streams.append(stream)
        await loop.create_connection(lambda: stream, "127.0.0.1", port)
        await done

    told = asyncio.gather(*map(one, range(count)), return_exceptions=True)
    failures = 0
    first = ""
    try:
        async with asyncio.timeout(STREAM_S):
            for each in await told:
                if isinstance(each, BaseException):
                    failures += 1
                    first = first or repr(each)
    except TimeoutError:
        failures = sum(not each.done() for each in waits)
        first = f"not done within {STREAM_S} s"
    firsts = sorted(each.first_ms for each in streams if each.first_ms == each.first_ms)
    lates = sorted(late for each in streams for late in each.late_ms)

    def at(values: list[float], part: float) -> float:
        return values[min(len(values) - 1, int(len(values) * part))] if values else float("nan")

    return {
        "first_p50_ms": at(firsts, 0.5),
        "first_p99_ms": at(firsts, 0.99),
        "late_p50_ms": at(lates, 0.5),
        "late_p99_ms": at(lates, 0.99),
        "chunks": len(lates),
        "failed": failures,
        "failure": first,
    }


def streams(way: Way, content: bytes, *, count: int, ramp_s: float) -> dict[str, Any]:
    """Many streams at once, begun one after the other within `ramp_s`."""
    found: dict[str, Any] = _client(
        way, ["streams", str(way.port), str(count), str(ramp_s)], way.request(content)
    )
    return found


def main() -> None:
    what, port, count, how = sys.argv[1:5]
    if what == "alone":
        found: Any = _alone(int(port), int(count), how == "kept")
    else:
        request = sys.stdin.buffer.read()
        try:
            import uvloop

            factory: Any = uvloop.new_event_loop
        except ImportError:
            factory = None
        with asyncio.Runner(loop_factory=factory) as runner:
            found = runner.run(_streams(int(port), int(count), float(how), request))
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
