"""From the start of the process to the first request that is served.

.venv/bin/python scripts/bench/start.py [--rounds 7]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from scripts.bench import figures, ways  # noqa: E402
from scripts.bench.rivals import NotSetUp  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    wanted = parser.parse_args()
    print(f"{figures.machine()}.\n")
    names = ("lmk bare", "lmk everything on", "stock mitmdump", "Ferro", "nginx")
    took: dict[str, list[float]] = {name: [] for name in names}
    cpu: dict[str, list[float]] = {name: [] for name in names}
    lacking: dict[str, str] = {}
    with ways.temporary() as top, ways.upstream(top) as up:
        for number in range(wanted.rounds):
            for name in names:
                if name in lacking:
                    continue
                folder = top / name.replace(" ", "-")
                folder.mkdir(exist_ok=True)  # from the second round on its store is there
                try:
                    with ways.ALL[name](up, folder) as way:
                        way.folder = folder
                        ways.until_it_answers(way, 0.005)
                        begun_s = _begun_s(way)
                        if number or "lmk" not in name:
                            took[name].append(time.clock_gettime(time.CLOCK_BOOTTIME) - begun_s)
                            cpu[name].append(way.cpu_s())
                except NotSetUp as error:
                    lacking[name] = str(error)
    rows = [
        [name, figures.spread(took[name], ".2f"), figures.spread(cpu[name], ".2f")]
        for name in names
        if took[name]
    ]
    figures.table(["", "seconds to the first answer", "of processor time"], rows)
    middle = statistics.median(took["lmk everything on"])
    figures.verdict("start to first served request, s", middle, 1.2, least=False)
    figures.keep("start", {"seconds": took, "cpu_s": cpu, "left_out": lacking})


def _begun_s(way: ways.Way) -> float:
    """When its process began, in seconds since the machine did; to a hundredth."""
    assert way.process is not None
    fields = Path(f"/proc/{way.process.pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[19]) / 100


if __name__ == "__main__":
    main()
