"""What a request costs within LlamaKey, without sockets: CPU µs through the road, the gate, the
store and the log, as it comes and with everything on; and the same for a chunk of a stream.

    .venv/bin/python scripts/bench/stages.py [--requests 2000] [--rounds 7] [--profile]

The least of the rounds is what it costs; the rest is what the machine did beside. With `--profile`
the functions that take most of it are listed.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from llamakey_addon.gate import Gate  # noqa: E402
from llamakey_addon.journal import Journal  # noqa: E402
from llamakey_addon.keys import mint  # noqa: E402
from llamakey_addon.road import Road  # noqa: E402
from scripts.bench import figures, ways  # noqa: E402
from tests.roadside import Bench, Link, make_bench  # noqa: E402

ANSWER = (
    b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Sat, 28 Nov 2026 07:00:00 GMT\r\n"
    b"Content-Type: application/json\r\nConnection: keep-alive\r\nContent-Length: %d\r\n\r\n%b"
    % (len(ways.ANSWER), ways.ANSWER.encode())
)
EVENT = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,'
    b'"model":"gpt-4o-mini","choices":[{"index":0,"delta":{"content":"at-1234567.123456"}}]}\n\n'
)
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
DONE = b"data: [DONE]\n\n"


def bench(folder: Path, everything: bool) -> Bench:
    config = {**(ways.EVERYTHING if everything else {}), "providers": {"openai": {}}}
    made = make_bench(folder, **config)
    if everything:
        made.store.add_key("bob-laptop", "bob", mint())
    settings = made.gate.settings
    journal = Journal(settings, (folder / "log.txt").open("w"))
    made.gate = Gate(settings, made.store, journal)
    made.road = made.rim.road = Road(made.rim, made.gate, "192.0.2.1")
    made.store.ledger.waiting = lambda: None  # closed with the next admission, as in a house
    made.store.ledger.checkpoints_elsewhere = True
    made.gate.book.prices.of(settings.providers["openai"].entry, ways.MODEL, time.time())
    return made


def head(made: Bench, content: bytes) -> bytes:
    lines = ("Content-Type: application/json", "Accept: application/json", "User-Agent: bench")
    return made.head("POST /openai/v1/chat/completions", *lines, body=content)


class Quiet(Link):
    """Keeps nothing of what is written."""

    def write(self, data: bytes, more: bytes = b"") -> None:
        pass


def requests(made: Bench, request: bytes, count: int) -> None:
    road, rim = made.road, made.rim
    for _ in range(count):
        road.client_data(request)
        road.opened(Quiet(rim.wishes.pop()[0], reused=True))
        road.link_data(ANSWER)
        assert rim.out.startswith(b"HTTP/1.1 200"), bytes(rim.out[:300])
        rim.out.clear()


def together(made: Bench, request: bytes, count: int) -> None:
    """Sixteen clients at a time, as a loop brings them: admitted together, answered one by one."""
    everybody = [made, *(made.another_road() for _ in range(15))]
    made.gate.book.soon = lambda: None
    for _ in range(count // 16):
        for each in everybody:
            each.road.client_data(request)
        made.gate.book.admit()
        for each in everybody:
            each.road.opened(Quiet(each.rim.wishes.pop()[0], reused=True))
            each.road.link_data(ANSWER)
            assert each.rim.out.startswith(b"HTTP/1.1 200"), bytes(each.rim.out[:300])
            each.rim.out.clear()
    made.gate.book.soon = None


def chunks(made: Bench, request: bytes, count: int) -> None:
    """One stream."""
    road, rim = made.road, made.rim
    road.client_data(request)
    road.opened(Quiet(rim.wishes.pop()[0], reused=True))
    road.link_data(STREAM)
    piece = b"%x\r\n%b\r\n" % (len(EVENT), EVENT)
    for _ in range(count):
        road.link_data(piece)
        rim.out.clear()
    road.link_data(b"%x\r\n%b\r\n0\r\n\r\n" % (len(DONE), DONE))
    rim.out.clear()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--profile", action="store_true")
    wanted = parser.parse_args()
    print(f"{figures.machine()}.\n")
    rows = []
    for name, everything in (("as it comes", False), ("everything on", True)):
        with tempfile.TemporaryDirectory(prefix="llamakey-bench-") as folder:
            made = bench(Path(folder), everything)
            for what, content, run, count in (
                ("a request of 300 bytes", ways.body(ways.SMALL), requests, wanted.requests),
                ("one of sixteen at a time", ways.body(ways.SMALL), together, wanted.requests),
                ("a request of 50 KB", ways.body(ways.LARGE), requests, wanted.requests // 4),
                ("a chunk", ways.body(ways.SMALL, stream=True), chunks, wanted.requests * 2),
            ):
                request = head(made, content)
                run(made, request, count // 10)
                took = []
                for _ in range(wanted.rounds):
                    begin_s = time.process_time()
                    run(made, request, count)
                    took.append((time.process_time() - begin_s) / count * 1e6)
                rows.append([f"{name}: {what}", figures.spread(took, ".1f")])
                if wanted.profile and everything:
                    profile = cProfile.Profile()
                    profile.runcall(run, made, request, count)
                    print(f"{what}, {count} of them:")
                    pstats.Stats(profile).sort_stats("tottime").print_stats(45)
            made.store.close()
    figures.table(["", "CPU µs"], rows)


if __name__ == "__main__":
    main()
