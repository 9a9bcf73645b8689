"""Figures of several rounds: spread, ratios within a round, the machine, and the JSON kept."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import statistics
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "bench"
RESULTS = CACHE / "results"


def spread(values: Sequence[float], form: str = ",.0f") -> str:
    """min / **median** / max"""
    known = [value for value in values if value == value]
    if not known:
        return "-"
    low, middle, high = min(known), statistics.median(known), max(known)
    return f"{low:{form}} / **{middle:{form}}** / {high:{form}}"


def ratios(of: Sequence[float], to: Sequence[float]) -> list[float]:
    """Within each round."""
    return [a / b if b else float("nan") for a, b in zip(of, to, strict=True)]


def percentile(values: Sequence[float], per_cent: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * per_cent / 100))]


def machine() -> str:
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
        cpu = found[1].strip() if found else cpu
    names = {"mitmproxy": "mitmproxy", "llamakey": "LlamaKey", "uvloop": "uvloop"}
    versions = []
    for package, name in names.items():
        with contextlib.suppress(Exception):
            versions.append(f"{name} {version(package)}")
    return (
        f"{cpu}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}, "
        f"load {os.getloadavg()[0]:.1f} before the start; "
        f"Python {platform.python_version()}, {', '.join(versions)}"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    print(f"| {' | '.join(head)} |")
    print(f"|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    print(flush=True)


def keep(name: str, data: Mapping[str, Any]) -> None:
    """Keep what was measured, beside what an earlier run has kept."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    text = json.dumps({"bench": name, "utc": stamp, "machine": machine(), **data}, indent=1)
    (RESULTS / f"{name}-{stamp}.json").write_text(text)
    (RESULTS / f"{name}.json").write_text(text)


def verdict(what: str, value: float, bound: float, *, least: bool, form: str = ".2f") -> None:
    """A line that says whether a target is reached."""
    met = value >= bound if least else value <= bound
    word = "unknown" if value != value else "met    " if met else "MISSED "
    sign = "≥" if least else "≤"
    print(f"{word} {what}: {value:{form}} (target {sign} {bound:{form}})")
