"""A fork is held to be what a start anew is: the same process, as far as it can see itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests import starts
from tests.sdks import runner
from tests.standin import stand_in

PROBE = '''\
"""A script of mitmdump's: tells of its process, then ends it."""
import json, os, signal, sys, threading

def stream(it):
    return [it.fileno(), it.mode, it.encoding, it.errors, it.newlines, it.line_buffering,
            it.write_through, it.isatty()]

def handler(number):
    found = signal.getsignal(number)
    return getattr(found, "__qualname__", str(found))

def descriptors():
    kinds = [os.readlink(f"/proc/self/fd/{name}") for name in range(3)]
    more = []
    for name in os.listdir("/proc/self/fd"):
        try:
            more.append(os.readlink(f"/proc/self/fd/{name}").split(":")[0])
        except OSError:
            pass  # that of the list itself
    return kinds, sorted(more)

umask = os.umask(0)
os.umask(umask)
facts = {
    "argv": sys.argv,
    "path": sys.path[1:],
    "main": sys.modules["__main__"].__name__,
    "cwd": os.getcwd(),
    "environ": {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")},
    "umask": umask,
    "leader": os.getpid() == os.getsid(0) == os.getpgid(0),
    "signals": {each.name: handler(each) for each in signal.Signals},
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    "streams": [stream(each) for each in (sys.stdin, sys.stdout, sys.stderr)],
    "same": [sys.stdin is sys.__stdin__, sys.stdout is sys.__stdout__],
    "descriptors": descriptors(),
    "threads": threading.active_count(),
    "zone": __import__("time").tzname,
}
with open("facts.json", "w") as file:
    json.dump(facts, file)
if "DIES" in os.environ:
    os.kill(os.getpid(), signal.SIGKILL)
sys.exit(int(os.environ["CODE"]))
'''


MITMDUMP = (str(starts.BIN / "mitmdump"), "-s", "probe.py", "-p", "0")


def facts(
    folder: Path,
    *,
    anew: bool,
    command: Sequence[str] = MITMDUMP,
    shared: Sequence[str] = (),
    **more: str,
) -> tuple[int, str, dict[str, Any]]:
    """How a process ended, what it printed, and what it saw of itself."""
    (folder / "facts.json").unlink(missing_ok=True)
    (folder / "probe.py").write_text(PROBE)
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "TZ": "Asia/Tokyo", "A": "\xfc\udcff"}
    env |= {"LANG": "C.UTF-8", "PYTHONPATH": str(starts.ROOT), **more}
    old = os.umask(0o31)
    try:
        with (folder / "out.txt").open("wb") as out:
            process = starts.start(
                command,
                cwd=folder,
                env=env,
                stdout=out,
                stderr=out,
                anew=anew,
                shared=shared,
            )
    finally:
        os.umask(old)
    code = process.wait(60)
    assert process.poll() == process.returncode == code
    printed = (folder / "out.txt").read_text()
    assert (folder / "facts.json").exists(), printed
    return code, printed, json.loads((folder / "facts.json").read_text())


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_fork_sees_what_a_start_anew_sees(tmp_path: Path, unbuffered: str) -> None:
    env = {"PYTHONUNBUFFERED": unbuffered} if unbuffered else {}
    assert_same(
        facts(tmp_path, anew=False, CODE="3", **env), facts(tmp_path, anew=True, CODE="3", **env)
    )


def assert_same(
    forked: tuple[int, str, dict[str, Any]], anew: tuple[int, str, dict[str, Any]]
) -> None:
    (code, _, seen), (anew_code, _, told) = forked, anew
    assert (code, seen["leader"], seen["umask"]) == (3, True, 0o31)
    assert anew_code == 3
    assert seen.keys() == told.keys()
    assert {name: (seen[name], fact) for name, fact in told.items() if seen[name] != fact} == {}


@pytest.mark.sdk
def test_a_fork_of_an_sdks_python_sees_what_a_start_anew_sees(tmp_path: Path) -> None:
    command = (str(runner.python_of("current")), "probe.py")
    assert_same(
        facts(tmp_path, anew=False, command=command, shared=runner.SHARED, CODE="3", PYTHONPATH=""),
        facts(tmp_path, anew=True, command=command, shared=runner.SHARED, CODE="3", PYTHONPATH=""),
    )


def test_a_fork_that_is_killed_ends_with_its_signal(tmp_path: Path) -> None:
    assert facts(tmp_path, anew=False, DIES="1")[0] == -signal.SIGKILL


def test_what_the_interpreter_itself_must_read_is_started_anew(tmp_path: Path) -> None:
    for variable, value in (("PYTHONIOENCODING", "ascii"), ("PYTHONPATH", str(tmp_path))):
        done = starts.run(
            [*starts.MODULE, "--version"],
            cwd=starts.ROOT,
            env={"PATH": os.environ["PATH"], variable: value},
            timeout_s=30,
        )
        assert (done.returncode, done.stderr) == (0, "")
    assert not starts.can_fork(starts.MODULE, {"PYTHONIOENCODING": "ascii"})
    assert not starts.can_fork([sys.executable, "-c", "pass"], {})
    assert starts.can_fork([*starts.MODULE, "env"], {"PYTHONPATH": str(starts.ROOT)})


def test_nothing_outlives_the_worker(tmp_path: Path) -> None:
    """A worker that is killed takes the server and what it started with it."""
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from tests import starts\n"
        "folder = Path(sys.argv[1])\n"
        "out = (folder / 'out.txt').open('wb')\n"
        "command = [*starts.MODULE, 'serve', '--listen', 'localhost:0']\n"
        "env = {'PATH': '/usr/bin', 'HOME': str(folder), 'LLAMAKEY_HOME': str(folder / 'data')}\n"
        "process = starts.start(command, cwd=folder, env=env, stdout=out, stderr=out)\n"
        "print(process.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    worker = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(starts.ROOT)},
        stdout=subprocess.PIPE,
    )
    assert worker.stdout is not None
    served = psutil.Process(int(worker.stdout.readline()))
    server = served.parent()
    assert server is not None
    worker.kill()
    worker.wait()
    worker.stdout.close()
    assert psutil.wait_procs([served, server], timeout=30)[1] == []


def test_a_stand_in_is_the_command(tmp_path: Path) -> None:
    """To a script: what it is given, what it prints, and how it ends."""
    command = starts.BIN / "lmk"
    with stand_in(tmp_path / "lmk", command):
        for arguments in (["keys", "find", "-"], ["keys", "nonsense"]):
            env = {"HOME": str(tmp_path), "LANG": "C.UTF-8"}
            done = subprocess.run(
                [tmp_path / "lmk", *arguments],
                cwd=tmp_path,
                env=env,
                input="no key",
                capture_output=True,
                text=True,
                check=False,
            )
            told = starts.run(
                [str(command), *arguments], cwd=tmp_path, env=env, stdin="no key", timeout_s=60
            )
            assert done.returncode == told.returncode
            assert (done.stdout, done.stderr) == (told.stdout, told.stderr)
