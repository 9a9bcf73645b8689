"""Every comparison, one after the other: some ten minutes. What fails is named, the rest goes on.

.venv/bin/python scripts/bench/all.py [--quick]
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
RUNS: list[tuple[str, list[str], list[str]]] = [
    ("throughput.py", ["--rounds", "5"], ["--rounds", "2", "--seconds", "1"]),
    ("latency.py", ["--rounds", "5"], ["--rounds", "2", "--count", "200"]),
    ("streams.py", ["--rounds", "3"], ["--rounds", "1", "--streams", "100"]),
    ("start.py", ["--rounds", "7"], ["--rounds", "3"]),
    ("two.py", ["--rounds", "5"], ["--rounds", "1"]),
    ("memory.py", [], ["--requests", "10000", "--streams", "100"]),
]


def main() -> int:
    quick = "--quick" in sys.argv[1:]
    failed = []
    subprocess.run([sys.executable, str(HERE / "rivals.py")], check=False)
    for name, usual, short in RUNS:
        print(f"\n## {name}\n", flush=True)
        begin_s = time.monotonic()
        done = subprocess.run([sys.executable, str(HERE / name), *(short if quick else usual)])
        print(f"\n({name}: {time.monotonic() - begin_s:.0f} s)", flush=True)
        if done.returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    raise SystemExit(main())
