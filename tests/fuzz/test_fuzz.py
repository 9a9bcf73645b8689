"""Half a minute of the fuzzer. `python -m tests.fuzz --seconds 600` is the long run."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import cast

import pytest

from tests.fakes import World
from tests.fuzz.client import Answer
from tests.fuzz.generators import Ask
from tests.fuzz.runner import LIMITS, Run, fuzz
from tests.harness import Mode, Proxy

SEED = 20261123


@pytest.mark.parametrize(("mode", "seconds"), [("lmk", 20), ("mitmdump", 10)])
def test_half_a_minute(world: World, tmp_path: Path, mode: Mode, seconds: float) -> None:
    report = asyncio.run(fuzz(world, tmp_path, seconds=seconds, seed=SEED, mode=mode))
    assert not report.findings, str(report)
    assert report.arrived > 100
    assert report.mutated > 20
    assert report.growth_mib < 64


def test_only_who_took_long_was_slow() -> None:
    """A limit that ends what has just begun is a finding, whatever the machine does."""
    run = Run(cast(Proxy, None), {}, SEED)
    honest = Ask("fz-0123456789abcdef", "POST", b"", provider="nobody")
    late = Answer(status=408, headers=[("x-llamakey-request-id", "lmk_1")])
    now_s = time.monotonic()
    assert not run._ended_by_a_limit(honest, late, now_s - LIMITS["head_timeout_s"] + 1)
    assert run.report.slow == 0
    assert run._ended_by_a_limit(honest, late, now_s - LIMITS["head_timeout_s"])
    assert run.report.slow == 1
    refused = Answer(status=502, headers=late.headers)
    assert not run._ended_by_a_limit(honest, refused, now_s - 100)
