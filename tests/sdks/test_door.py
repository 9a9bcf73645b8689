"""SDKs that no variable redirects, unmodified, by `lmk run` and the second door."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import harness
from tests.cli.command import Lmk
from tests.conftest import Start
from tests.fakes import World
from tests.fakes.families import fal
from tests.harness import Proxy
from tests.sdks.matrix import HEARD, RUNS, SPEECH, TEXT, UPLOAD_BYTES, VECTOR
from tests.sdks.run import Raises, Run
from tests.sdks.runner import Outcome, execute, faults
from tests.sdks.test_clouds import SERVERS
from tests.sdks.test_sdks import served

CORPORA = [f"corpus-{number}" for number in range(1, 5)]


@dataclass(frozen=True, slots=True)
class Team:
    proxy: Proxy
    denied: str
    other: str


_TEAMS: dict[int, Team] = {}
_PORT = harness.free_port()


@pytest.fixture
def team(shared_proxy: Start, world: World, tmp_path_factory: pytest.TempPathFactory) -> Team:
    proxy = shared_proxy(config={"door": {"open": True, "listen": f"localhost:{_PORT}"}})
    if id(proxy) not in _TEAMS:
        denied = harness.mint(tmp_path_factory.mktemp("elsewhere"), "mallory")
        world.forbid(denied)
        proxy.keys.append(denied)
        _TEAMS[id(proxy)] = Team(proxy, denied, proxy.mint("bob"))
    return _TEAMS[id(proxy)]


def variables(team: Team, folder: Path, *arguments: str) -> dict[str, str]:
    """What `lmk run` gives a program, on the proxy's machine."""
    lmk = Lmk(folder, {"LLAMAKEY_HOME": str(team.proxy.home)})
    env_file = folder / "llamakey_local.env"  # files with keys are written beside it
    shutil.copy(team.proxy.folder / "llamakey_local.env", env_file)
    done = lmk("run", "--key-file", str(env_file), *arguments, "--", "env", "-0")
    assert done.code == 0, done.err
    pairs = (line.partition("=") for line in done.out.split("\0") if line)
    own = {"PATH", "HOME", "PWD", "LLAMAKEY_HOME"}
    found = {name: value for name, _, value in pairs if name not in own}
    team.proxy.keys.append(found["LLAMAKEY_API_KEY"])
    team.proxy.world.forbid(found["LLAMAKEY_API_KEY"])
    return found


def call(team: Team, world: World, run: Run, env: dict[str, str], folder: Path) -> Outcome:
    """What the program gave; everything that left went by the proxy, and with the real key."""
    since, lines = world.mark(), len(team.proxy.log())
    outcome = execute(run, env, (), folder, denied=team.denied, limited=team.other)
    assert faults(run, outcome) == []
    seen = [request for request in world.requests(since=since) if request.family not in SERVERS]
    assert {request.credential for request in seen} == {"real"}
    sent = served(team.proxy, lines, len(seen))
    assert len(seen) == len([line for line in sent if line["end"] != "answered here"])
    return outcome


def run(program: str, expect: dict[str, object], **more: Any) -> Run:
    return Run(program.partition(".")[0], program, (), {}, expect, **more)


@pytest.mark.sdk
def test_python(team: Team, world: World, tmp_path: Path) -> None:
    env = variables(team, tmp_path)
    expect: dict[str, object] = {
        "huggingface_plain": TEXT,
        "huggingface_stream": TEXT,
        "huggingface_denied": Raises("HfHubHTTPError"),
        "mistral_plain": TEXT,
        "mistral_stream": TEXT,
        "mistral_upload": ["notes.jsonl", UPLOAD_BYTES],
        "mistral_placeholder": TEXT,
        "mistral_denied": Raises("SDKError"),
        "mistral_other": Raises("SDKError"),
        "openrouter_plain": TEXT,
        "vectara_key": CORPORA,
        "vectara_oauth": CORPORA,
        "voyage": VECTOR,
        "elevenlabs_download": SPEECH,
        "elevenlabs_socket": SPEECH,
        "deepgram_upload": HEARD,
        "deepgram_socket": HEARD,
        "xai_refused": Raises("RpcError"),
    }
    outcome = call(team, world, run("door_python.py", expect), env, tmp_path)
    assert "Two different LlamaKey keys" in outcome.surfaces["mistral_other"]["text"]
    word = outcome.surfaces["xai_refused"]["text"]
    assert "UNIMPLEMENTED" in word
    assert "use the openai SDK" in word


@pytest.mark.sdk
def test_python_of_before(team: Team, world: World, tmp_path: Path) -> None:
    env = variables(team, tmp_path, "--for", "vertex,huggingface,mistral")
    expect: dict[str, object] = {
        "vertex_plain": TEXT,
        "vertex_stream": TEXT,
        "vertex_predict": VECTOR,
        "huggingface_plain": TEXT,
        "mistral_plain": TEXT,
    }
    call(team, world, run("door_old.py", expect, environment="old"), env, tmp_path)


@pytest.mark.sdk
def test_code_that_reads_a_client_id_and_secret(team: Team, world: World, tmp_path: Path) -> None:
    env = variables(team, tmp_path, "--for", "vectara-oauth")
    assert "VECTARA_API_KEY" not in env
    call(team, world, run("door_vectara_python.py", {"variables": CORPORA}), env, tmp_path)


@pytest.mark.sdk
def test_node(team: Team, world: World, tmp_path: Path) -> None:
    env = variables(team, tmp_path)
    expect: dict[str, object] = {
        "cohere_plain": TEXT,
        "cohere_stream": TEXT,
        "cohere_denied": Raises("UnauthorizedError"),
        "huggingface_plain": TEXT,
        "huggingface_stream": TEXT,
        "https": [200, ["fake-1", "fake-2"]],
        "refused": Raises("Error"),
        "fetch_refused": Raises("Error"),
    }
    outcome = call(team, world, run("door_node.cjs", expect, environment="node"), env, tmp_path)
    assert "403" in outcome.surfaces["refused"]["text"]


@pytest.mark.sdk
def test_fal(team: Team, world: World, tmp_path: Path) -> None:
    env = variables(team, tmp_path)
    assert not [name for name in env if name.startswith("FAL_") and name != "FAL_KEY"]
    [known] = [run for run in RUNS if run.id == "fal"]
    # of another user's key within the tunnel nothing is taken
    expect = {**known.expect, "limited": known.expect["denied"]}
    call(team, world, run("fal_python.py", expect), env, tmp_path)
    assert {line["path"] for line in team.proxy.log() if line.get("provider") == "fal"} >= {
        "/fal-ai/flux/dev/stream"
    }


@pytest.mark.sdk
def test_fal_for_node(team: Team, world: World, tmp_path: Path) -> None:
    env = variables(team, tmp_path)
    expect: dict[str, object] = {
        "plain": fal.IMAGE,
        "subscribe": TEXT,
        "streamed": TEXT,
        # what an answer names is the provider's own here, and reached by the same tunnel
        "queue": ["queue.fal.run", "COMPLETED", TEXT],
        "denied": Raises("ApiError"),
    }
    call(team, world, run("fal_node.cjs", expect, environment="node"), env, tmp_path)
