"""The other proxies, each in an environment of its own below .cache/bench, made when first needed.

    .venv/bin/python scripts/bench/rivals.py [NAME ...]    # makes them ahead

None of them is a dependency of LlamaKey. One that can't be set up is named, and left out.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from scripts.bench.figures import CACHE  # noqa: E402

#: From PyPI, at the versions that were measured.
PYTHON = {
    # the newest whose dependencies are all there
    "litellm": ("litellm[proxy]==1.88.0",),
    "ferro": ("ferrogw==1.5.10",),
    "llamakey": ("llamakey==0.1.4",),
}
#: From the npm registry.
NODE = {"portkey": ("@portkey-ai/gateway@1.15.2",)}
INSTALL_S = 600


class NotSetUp(Exception):
    """A rival can't be had here; the message says why."""


def place(name: str) -> Path:
    """The folder of a rival's environment, made if it is not there. Raises NotSetUp."""
    folder = CACHE / name
    done = folder / ".complete"
    wanted = PYTHON.get(name) or NODE[name]
    stamp = "\n".join(wanted)
    if done.exists() and done.read_text() == stamp:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if name in PYTHON:
        python = getattr(sys, "_base_executable", sys.executable)
        _run([python, "-m", "venv", str(folder)])
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        _run([*pip, "--disable-pip-version-check", *wanted])
    else:
        if shutil.which("npm") is None:
            raise NotSetUp("npm is not installed")
        (folder / "package.json").write_text('{"private": true}')
        npm = ["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund"]
        _run([*npm, "--ignore-scripts", *wanted])
    done.write_text(stamp)
    return folder


def _run(command: list[str]) -> None:
    print(f"setting up: {' '.join(command[-1:])}", file=sys.stderr, flush=True)
    try:
        done = subprocess.run(command, capture_output=True, timeout=INSTALL_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotSetUp(str(error)) from None
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise NotSetUp(lines[-1] if lines else f"{command[0]} failed")


def main() -> None:
    for name in sys.argv[1:] or [*PYTHON, *NODE]:
        try:
            print(f"{name}: {place(name)}")
        except NotSetUp as error:
            print(f"{name}: not set up: {error}")


if __name__ == "__main__":
    main()
