"""mitmproxy's console with LlamaKey: what it shows on a terminal."""

from __future__ import annotations

import shlex
from pathlib import Path

import yaml

from tests import canary, harness, readme, starts
from tests.client import Wire
from tests.fakes import World


def test_the_console_shows_requests_and_no_real_key(world: World, tmp_path: Path) -> None:
    port = harness.free_port()
    config = harness.base_config(world, port)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    home, data = tmp_path / "home", tmp_path / "data"
    for folder in (home, data):
        folder.mkdir()
    key = harness.mint(data, "alice")
    environ = harness._environment(world, home, data, {})
    command = shlex.join([str(starts.BIN / "mitmproxy"), "-s", str(harness.SCRIPT)])
    with readme.terminal(command, tmp_path, environ) as console:
        console.wait_for(rf"\[127\.0\.0\.1:{port}\]")
        with Wire(f"http://localhost:{port}") as wire:
            wire.request("GET", "/openai/v1/models", [("Authorization", f"Bearer {key}")])
            assert wire.answer().status == 200
        console.wait_for(r"/openai/v1/models +200 ")
        console.press("\r")
        console.wait_for(r"Bearer sk-lmk-\w{10}-\.\.\.")
        console.press("qq")
        console.wait_for(r"(?i)quit")
        console.press("y")
        assert console.process.wait(60) == 0
        secrets = [*world.keys.values(), key]
        assert canary.find(console.printed.encode(), secrets) == []
    assert canary.find_in_folder(tmp_path, secrets) == []
