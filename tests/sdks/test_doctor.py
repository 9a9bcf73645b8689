"""`lmk doctor` with official SDKs, as they are installed here: a few, by each door."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests import harness
from tests.conftest import Start
from tests.fakes import World
from tests.sdks.runner import SDKS
from tests.starts import BIN, ROOT

FRONT = {"anthropic (python)", "groq (python)", "groq-sdk (node)", "@anthropic-ai/sdk (node)"}
SECOND = {"mistralai (python)", "cohere-ai (node)"}
NONE = {"xai-sdk (python)"}


@pytest.mark.sdk
def test_official_sdks(shared_proxy: Start, world: World, tmp_path: Path) -> None:
    proxy = shared_proxy(config={"door": {"open": True, "listen": "localhost:0"}})
    (tmp_path / "llamakey_local.env").write_text((proxy.folder / "llamakey_local.env").read_text())
    names = "anthropic,groq,groq-sdk,@anthropic-ai/sdk,mistralai,cohere-ai,xai-sdk"
    since = world.mark()
    done = subprocess.run(
        [str(BIN / "lmk"), "doctor", "--clients", "--json", "--for", names],
        cwd=tmp_path,
        env={
            "PATH": os.pathsep.join([str(SDKS / "current" / "bin"), os.environ["PATH"]]),
            "NODE_PATH": str(SDKS / "node" / "node_modules"),
            "HOME": str(tmp_path),
            "LLAMAKEY_HOME": str(proxy.home),
            "PYTHONPATH": str(ROOT),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=harness.PATIENCE_S * 2,
        check=False,
    )
    found = {each["client"]: each for each in json.loads(done.stdout)["clients"]}
    # agents have providers of these names, too, and may be on PATH
    doors = {name: found[name]["door"] for name in (*FRONT, *SECOND, *NONE)}
    assert doors == {
        **dict.fromkeys(FRONT, "front"),
        **dict.fromkeys(SECOND, "second"),
        **dict.fromkeys(NONE, None),
    }, done.stdout
    assert {found[name]["state"] for name in (*FRONT, *SECOND)} == {"through"}
    seen = [request for request in world.requests(since=since) if request.credential == "real"]
    assert len(seen) >= len(FRONT | SECOND)
