"""Runs a program of `programs/` in its SDK's environment.

`python -m tests.sdks.runner [ID …]` runs programs straight against the fakes over TLS, with the
real keys and no proxy between: what fails there is the SDK's or the fake's own.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import starts
from tests.fakes import World
from tests.fakes.families import FAMILIES
from tests.sdks.matrix import RUNS
from tests.sdks.run import Environment, Raises, Run

ROOT = Path(__file__).resolve().parent.parent.parent
SDKS = ROOT / ".sdks"
PROGRAMS = Path(__file__).resolve().parent / "programs"
LIMIT_S = 100
SHARED = (
    *("anyio._backends._asyncio", "asyncio", "attr", "click", "distro", "h2.connection"),
    *("httpcore", "httpcore2", "httpx", "httpx2", "multidict", "pydantic.dataclasses"),
    *("pydantic.fields", "pydantic.functional_validators", "pydantic.main", "pydantic.root_model"),
    *("rich.console", "rich.markdown", "rich.progress", "rich.syntax", "rich.table", "sniffio"),
    *("typing_extensions", "websockets.asyncio.client", "websockets.sync.client", "yaml", "yarl"),
)
"""What many SDKs stand on, and imports itself the same whatever the environment says. The SDKs
import themselves in a process of their own, which knows its environment by then."""
_LIMITED = re.compile(r"(\w+_)?(?<!rate_)limited:")
"""Surfaces that fail only where a proxy limits somebody."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a program printed, surface by surface."""

    surfaces: dict[str, dict[str, Any]]
    errors: str
    seconds: float


def places(bases: Mapping[str, str], keys: Mapping[str, str]) -> dict[str, str]:
    """What the `{…}` of a Run's values stand for."""
    bare = {f"authority_{id}": base.partition("://")[2] for id, base in bases.items()}
    return {**bases, **bare, **{f"key_{id}": key for id, key in keys.items()}}


def execute(
    run: Run,
    env: Mapping[str, str],
    args: tuple[str, ...],
    home: Path,
    *,
    denied: str,
    limited: str,
) -> Outcome:
    """Runs the program with these variables alone; AssertionError when it does not finish."""
    known = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    # SDKs that would fetch models or tell statistics have no network here
    quiet = {"HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONDONTWRITEBYTECODE": ""}
    keys = {"FAKE_DENIED_KEY": denied, "FAKE_LIMITED_KEY": limited}
    full = {**known, "HOME": str(home), **quiet, **keys, **run.own, **env}
    begun = time.monotonic()
    shared: tuple[str, ...] = SHARED
    if run.environment == "node":
        command, shared = ["node"], ()
        full["NODE_PATH"] = str(SDKS / "node" / "node_modules")
    else:
        command = [str(python_of(run.environment))]
    command += [str(PROGRAMS / run.program), *args]
    done = starts.run(command, env=full, cwd=home, timeout_s=LIMIT_S, shared=shared)
    assert done.returncode == 0, f"{run.id} ended with {done.returncode}:\n{done.stderr}"
    printed = done.stdout.strip().splitlines()
    assert printed, f"{run.id} printed nothing:\n{done.stderr}"
    return Outcome(json.loads(printed[-1]), done.stderr, time.monotonic() - begun)


def python_of(environment: Environment) -> Path:
    return SDKS / environment / "bin" / "python"


def faults(run: Run, outcome: Outcome) -> list[str]:
    """Where the outcome is not what the run expects."""
    more = outcome.surfaces.keys() - run.expect.keys() - {"strays"}
    found = [f"{name} is not expected" for name in more]
    strays = {*outcome.surfaces.get("strays", {}).get("value", ())} - run.strays
    found += (f"it would have gone to {host}" for host in sorted(strays))
    for name, wanted in run.expect.items():
        got = outcome.surfaces.get(name, {})
        if isinstance(wanted, Raises):
            if wanted.kind not in got.get("kinds", ()):
                found.append(f"{name}: should raise {wanted.kind}, gave {got}")
        elif "value" not in got or got["value"] != wanted:
            found.append(f"{name}: should give {wanted!r}, gave {got}")
    return found


def main() -> int:
    wanted = set(sys.argv[1:])
    wrong = 0
    with tempfile.TemporaryDirectory() as folder, World(Path(folder)) as world:
        bases = {id: world.origin(id) for id in FAMILIES}
        # both read the one HF_TOKEN
        world.set_key("hfendpoint", world.key("huggingface"))
        words = places(bases, world.keys)
        for run in RUNS:
            if wanted and run.id not in wanted:
                continue
            env = {name: value.format_map(words) for name, value in (run.env | run.direct).items()}
            trust = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")
            env |= dict.fromkeys(trust, str(world.ca))
            args = tuple(value.format_map(words) for value in run.args)
            outcome = execute(run, env, args, Path(folder), denied="wrong", limited="wrong")
            problems = [text for text in faults(run, outcome) if not _LIMITED.match(text)]
            print(f"{run.id:32} {outcome.seconds:5.1f} s  {'ok' if not problems else ''}")
            for problem in problems:
                print("    ", problem)
            wrong += bool(problems)
        lost = [request for request in world.requests() if request.status == 404]
        strays = Counter(f"{request.family} {request.method} {request.path}" for request in lost)
        print("answered 404:", dict(strays))
    return wrong


if __name__ == "__main__":
    sys.exit(main())
