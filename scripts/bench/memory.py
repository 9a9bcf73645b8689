"""Memory of the proxy with everything on: idle, after requests, after streams, while 1 GB passes.

.venv/bin/python scripts/bench/memory.py [--requests 100000] [--streams 500]
"""

from __future__ import annotations

import argparse
import dataclasses
import http.client
import json
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from scripts.bench import figures, load, upstream, ways  # noqa: E402

GB = 1_000_000_000


def download(way: ways.Way) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", way.port, timeout=120)
    content = json.dumps({"model": "tts-bench", "input": str(GB), "voice": "alloy"})
    headers = {"Content-Type": "application/json", **way.headers}
    connection.request("POST", "/openai/v1/audio/speech", content, headers)
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    size = 0
    while data := answer.read(1 << 18):
        size += len(data)
    assert size == GB, size
    connection.close()


def upload(way: ways.Way) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", way.port, timeout=120)
    begin = (
        b'--edge\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n'
        b'--edge\r\nContent-Disposition: form-data; name="file"; filename="big.bin"\r\n\r\n'
    )
    end = b"\r\n--edge--\r\n"
    connection.putrequest("POST", "/openai/v1/files")
    connection.putheader("Content-Type", "multipart/form-data; boundary=edge")
    connection.putheader("Content-Length", str(len(begin) + GB + len(end)))
    for name, value in way.headers.items():
        connection.putheader(name, value)
    connection.endheaders(begin)
    block = b"\0" * 250_000
    for _ in range(GB // len(block)):
        connection.send(block)
    connection.send(end)
    answer = connection.getresponse()
    told = answer.read()
    assert answer.status == 200, told
    connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--streams", type=int, default=500)
    wanted = parser.parse_args()
    print(f"{figures.machine()}.\n")
    kept: dict[str, float] = {}
    with (
        ways.temporary() as top,
        ways.upstream(top) as plain,
        upstream.started(top / "provider", "provider") as port,
    ):
        folder = top / "lmk"
        folder.mkdir()
        # requests to nginx, which can answer so many; streams and bulk to the other
        for name, up in (("requests", plain), ("rest", dataclasses.replace(plain, port=port))):
            place = folder / name
            place.mkdir()
            with ways.lmk(up, place, everything=True) as way:
                ways.until_it_answers(way)
                time.sleep(3)  # what is loaded beside
                idle = way.rss_mb()
                if name == "requests":
                    kept["idle_mb"] = idle
                    _requests(way, wanted.requests, top, kept)
                    continue
                content = ways.body(ways.SMALL, stream=True)
                load.streams(way, content, count=50, ramp_s=0.2)
                before = way.rss_mb()
                load.streams(way, content, count=wanted.streams, ramp_s=1.0)
                kept["streams_after_mb"] = way.rss_mb() - before
                # of a person without rules: large files of others' may be batches, and are refused
                bob = (place / "key-bob.txt").read_text()
                way.headers = {"Authorization": f"Bearer {bob}"}
                for what, move in (("down", download), ("up", upload)):
                    before = way.rss_mb()
                    way.reset_peak()
                    begin_s, cpu_s = time.perf_counter(), way.cpu_s()
                    move(way)
                    kept[f"gb_{what}_peak_mb"] = way.peak_mb() - before
                    kept[f"gb_{what}_s"] = time.perf_counter() - begin_s
                    kept[f"gb_{what}_cpu_s"] = way.cpu_s() - cpu_s
    figures.table(["", ""], [[name, f"{value:,.1f}"] for name, value in kept.items()])
    figures.verdict("idle, MB", kept["idle_mb"], 95, least=False, form=".1f")
    what = f"growth over {wanted.requests:,} requests, MB"
    figures.verdict(what, kept["requests_mb"], 5, least=False, form=".1f")
    figures.verdict("growth over streams, MB", kept["streams_after_mb"], 5, least=False, form=".1f")
    for way_of in ("down", "up"):
        grown = kept[f"gb_{way_of}_peak_mb"]
        figures.verdict(f"1 GB {way_of}, MB", grown, 16, least=False, form=".1f")
    figures.keep("memory", kept)


def _requests(way: ways.Way, requests: int, top: Path, kept: dict[str, float]) -> None:
    content = ways.body(ways.SMALL)
    done = load.wrk(way, content, top, clients=16, seconds=2).requests
    before = way.rss_mb()
    count = 0
    while count < requests:
        count += load.wrk(way, content, top, clients=16, seconds=10).requests
    time.sleep(1)
    kept["warm_mb"] = before
    kept["requests"] = count + done
    kept["requests_mb"] = way.rss_mb() - before


if __name__ == "__main__":
    main()
