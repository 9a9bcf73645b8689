"""Official SDKs through the proxy: fresh processes that sourced `llamakey_local.env`, and no more.

The fakes demand the real key. What each program does and must give stands in `matrix.py`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import harness, starts
from tests.conftest import Start
from tests.fakes import World
from tests.harness import Proxy
from tests.sdks.matrix import RUNS
from tests.sdks.run import Environment, Raises, Run
from tests.sdks.runner import PROGRAMS, SHARED, Outcome, execute, faults, places, python_of


@dataclass(frozen=True, slots=True)
class Team:
    """A running proxy, what its owner's file tells a client, and keys for what must fail."""

    proxy: Proxy
    env: dict[str, str]
    denied: str
    limited: str


_TEAMS: dict[int, Team] = {}


@pytest.fixture
def team(shared_proxy: Start, world: World, tmp_path_factory: pytest.TempPathFactory) -> Team:
    # Some SDKs insist on TLS for WebSockets; what they need must not disturb the others.
    proxy = shared_proxy(own_tls=True)
    if id(proxy) not in _TEAMS:
        # of a store that the proxy does not have: well-formed, and unknown
        denied = harness.mint(tmp_path_factory.mktemp("elsewhere"), "mallory")
        world.forbid(denied)
        env = sourced(proxy.folder / "llamakey_local.env")
        key = env["OPENAI_API_KEY"]
        world.forbid(key)
        proxy.keys += [denied, key]
        _TEAMS[id(proxy)] = Team(proxy, env, denied, proxy.mint("bob"))
    return _TEAMS[id(proxy)]


def sourced(path: Path) -> dict[str, str]:
    """What `source PATH` adds to an empty environment, as bash understands the file."""
    script = 'set -eu; source "$1"; env -0'
    done = subprocess.run(
        ["env", "-i", "bash", "-c", script, "bash", str(path)], capture_output=True, check=True
    )
    pairs = (line.partition("=") for line in done.stdout.decode().split("\0") if line)
    own = {"PWD", "SHLVL", "_", "OLDPWD"}
    return {name: value for name, _, value in pairs if name not in own}


@pytest.mark.sdk
@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.id)
def test_sdk(run: Run, team: Team, world: World, tmp_path: Path) -> None:
    proxy = team.proxy
    bases = {id: f"{proxy.url}/{id}" for id in world.keys}
    key = team.env["OPENAI_API_KEY"]
    words = places(bases, dict.fromkeys(world.keys, key) | {"huggingface": f"hf_{key}"})
    told = {name: value.format_map(words) for name, value in run.env.items()}
    assert {name: team.env.get(name) for name in told} == told
    since, lines = world.mark(), len(proxy.log())

    args = tuple(value.format_map(words) for value in run.args)
    outcome = execute(run, team.env, args, tmp_path, denied=team.denied, limited=team.limited)

    assert faults(run, outcome) == []
    check_denials(run, outcome, proxy)
    # only what was allowed went on, each request with the real key and none with another name
    seen = world.requests(since=since)
    assert {request.credential for request in seen} == {"real"}
    assert not [request.head for request in seen if b"of-the-client" in request.head]
    assert len(seen) == len(served(proxy, lines, len(seen)))


def served(proxy: Proxy, since: int, count: int) -> list[dict[str, Any]]:
    """The log's lines of what was sent on; waits for so many, since a WebSocket is booked when its
    end is seen, a moment after the program's own."""
    for _ in harness._ticks(10):
        found = [line for line in proxy.log()[since:] if "id" in line and not line.get("denied")]
        if len(found) >= count:
            break
    return found


def check_denials(run: Run, outcome: Outcome, proxy: Proxy) -> None:
    """Each denial names what to do, and an id that stands in the log with the same reason."""
    for name, wanted in run.expect.items():
        reason = name.rpartition("_")[2]
        if reason not in ("denied", "limited") or "rate" in name or not isinstance(wanted, Raises):
            continue
        text = outcome.surfaces[name]["text"]
        if not wanted.speaks:
            continue
        found = re.search(r"lmk_[0-9A-Za-z]+", text)
        assert found, f"{name} names no request id: {text}"
        line = proxy.wait_for_log(id=found[0])
        if reason == "denied":
            assert (line["status"], line["denied"]) == (401, "invalid_api_key")
            assert "`lmk keys new NAME`" in text
        else:
            assert (line["status"], line["denied"], line["user"]) == (
                403,
                "permission_denied",
                "bob",
            )
            assert "users.bob.allow" in text


def sdk_modules(*names: str) -> set[str]:
    """What the SDKs of these lists are imported as."""
    modules = {
        "cerebras-cloud-sdk": "cerebras.cloud.sdk",
        "deepgram-sdk": "deepgram",
        "fireworks-ai": "fireworks",
        "google-genai": "google",
        "langchain-openai": "langchain_openai",
        "perplexityai": "perplexity",
        "writer-sdk": "writerai",
        "xai-sdk": "xai_sdk",
    }
    wanted = set()
    for name in names:
        for line in (Path(__file__).parent / name).read_text().splitlines():
            package = re.split(r"[=<>\[ ]", line)[0]
            if package and not line.startswith("#"):
                wanted.add(modules.get(package, package))
    return wanted


def test_the_programs_use_every_sdk_of_the_locks() -> None:
    """The environments hold no SDK that no program runs."""
    programs = Path(__file__).parent / "programs"
    text = "\n".join(path.read_text() for path in programs.iterdir() if path.is_file())
    text += "\n".join(" ".join(run.args) for run in RUNS)
    wanted = sdk_modules("current.in", "old.in")
    assert [module for module in sorted(wanted) if not re.search(rf"\b{module}\b", text)] == []


@pytest.mark.sdk
@pytest.mark.parametrize("environment", ["current", "old"])
def test_what_processes_share_is_no_sdk(environment: Environment, tmp_path: Path) -> None:
    """Each imports its own, when its variables are set."""
    program = tmp_path / "program.py"
    program.write_text("import sys\nprint(*sys.modules)")
    done = starts.run(
        [str(python_of(environment)), str(program)],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        timeout_s=60,
        shared=SHARED,
    )
    modules = set(done.stdout.split())
    assert "httpx" in modules
    # the last reads a variable when it is imported; a .pth file makes the name `google`
    unwanted = {*sdk_modules(f"{environment}.in"), "google.genai", "google.auth", "aiohttp"}
    assert modules.isdisjoint(unwanted - {"google"})


@pytest.mark.sdk
@pytest.mark.parametrize("environment", ["current", "node"])
def test_a_program_that_goes_elsewhere_fails(environment: Environment, tmp_path: Path) -> None:
    if environment == "node":
        program = tmp_path / "stray.cjs"
        shared = json.dumps(str(PROGRAMS / "surfaces.cjs"))
        went = 'async () => fetch("https://stray.invalid/x").catch(() => "refused")'
        program.write_text(f"require({shared}).run({{ went: {went} }});")
    else:
        program = tmp_path / "stray.py"
        program.write_text(
            "import sys\nfrom urllib.request import urlopen\n"
            f"sys.path.insert(0, {str(PROGRAMS)!r})\n"
            "from surfaces import surface\n"
            "@surface\ndef went():\n    urlopen('https://stray.invalid/x')\n"
        )
    run = Run("stray", str(program), (), {}, {}, environment)
    outcome = execute(run, {}, (), tmp_path, denied="", limited="")
    assert faults(run, outcome) == ["went is not expected", "it would have gone to stray.invalid"]
