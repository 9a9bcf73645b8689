"""Half a minute of the fuzzer. `python -m tests.fuzz --seconds 600` is the long run."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.fakes import World
from tests.fuzz.runner import fuzz
from tests.harness import Mode

SEED = 20261123


@pytest.mark.parametrize(("mode", "seconds"), [("lmk", 20), ("mitmdump", 10)])
def test_half_a_minute(world: World, tmp_path: Path, mode: Mode, seconds: float) -> None:
    report = asyncio.run(fuzz(world, tmp_path, seconds=seconds, seed=SEED, mode=mode))
    assert not report.findings, str(report)
    assert report.arrived > 100
    assert report.mutated > 20
    assert report.growth_mib < 64
