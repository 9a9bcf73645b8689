"""The harness is trusted to find leaks and to end what it began; so it is tested itself."""

from __future__ import annotations

import base64
import gzip
from pathlib import Path
from typing import Any, cast

import psutil
import pytest

from tests import harness
from tests.conftest import Start
from tests.fakes import World


def test_planted_keys_are_found(shared_proxy: Start, world: World) -> None:
    proxy = shared_proxy()
    assert proxy.leaks() == []
    plants = {
        "real.txt": b"x" + base64.b64encode(b"Bearer " + world.key("cohere").encode()),
        "packed.gz": gzip.compress(world.key("openai").encode()),
        "local.log": proxy.local_key.encode(),
        "llamakey_local.env.old": proxy.local_key.encode(),
    }
    try:
        for name, content in plants.items():
            (proxy.folder / name).write_bytes(content)
        found = "\n".join(proxy.leaks())
    finally:
        for name in plants:
            (proxy.folder / name).unlink()
    assert [name for name in plants if name not in found] == []
    assert proxy.leaks() == []


def test_a_revoked_key_and_a_stopped_process(proxy: Start) -> None:
    running = proxy("lmk")
    extra = running.mint("carol", "carols laptop")
    harness.revoke(running.home, "carols laptop")
    assert extra != running.local_key
    assert running.healthy()
    assert running.stop() == 0
    assert not running.healthy()
    assert not psutil.pid_exists(running.process.pid)


def test_a_start_that_fails_says_why(proxy: Start) -> None:
    with pytest.raises(harness.StartFailed, match="provider"):
        proxy("lmk", config={"providrs": {}})


def test_settings_are_merged() -> None:
    base = {"a": {"b": 1, "c": 2}, "d": 3}
    assert harness.merged(base, {"a": {"b": None, "e": 4}, "d": None}) == {"a": {"c": 2, "e": 4}}


def test_a_log_is_read_once_and_whole_lines_alone(tmp_path: Path) -> None:
    nothing = cast(Any, None)
    proxy = harness.Proxy("lmk", tmp_path, 0, nothing, nothing, nothing)
    assert proxy.log() == []
    with proxy.log_path.open("a") as file:
        for text, count in (('{"n": 0}\n{"n": 1}\n{"n"', 2), (": 2}\n", 3), ("", 3)):
            file.write(text)
            file.flush()
            found = proxy.log()
            assert found == [{"n": number} for number in range(count)]
            found.clear()  # the caller's own
