"""Starts `lmk` and mitmproxy's commands as processes of their own, in a fraction of the time.

A second of each start is spent on imports, the same in every one. So a worker keeps one process
that has done them (`tests/forkserver.py`), and a command is a fork of it that runs the command's
own script. What the interpreter itself must read at its start, and all other commands, are started
anew; so are those that ask for it.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, Protocol

from tests import forkserver
from tests.forkserver import LENGTH, PID, STATUS, Order

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
SCRIPTS = tuple(str(BIN / name) for name in ("lmk", "llamakey", "mitmdump", "mitmweb"))
MODULE = (sys.executable, "-m", "llamakey_addon")
_FORKED_ENVIRON = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
"""Variables of the interpreter that a fork honours, with these values."""


class Process(Protocol):
    """What tests do with a process; a part of `subprocess.Popen`."""

    pid: int

    @property
    def returncode(self) -> int | None: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int) -> None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


def start(
    command: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    stdin: int | IO[Any] | None = None,
    stdout: int | IO[Any],
    stderr: int | IO[Any],
    anew: bool = False,
    shared: Sequence[str] = (),
    mask: int | None = None,
) -> Process:
    """Starts a command as the leader of a session.

    Arguments:
        stdin, stdout, stderr: descriptors, or what has one; None is the null device.
        anew: never by a fork.
        shared: the command is a Python and a script, and what forks of that Python that run such
            scripts may have in common: these modules, already imported.
        mask: its umask; that of this process if None.
    """
    if stdin is None:
        with open(os.devnull, "rb") as nothing:
            return start(
                command,
                cwd=cwd,
                env=env,
                stdin=nothing,
                stdout=stdout,
                stderr=stderr,
                anew=anew,
                shared=shared,
                mask=mask,
            )
    if anew or not (shared or can_fork(command, env)):
        return subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            umask=-1 if mask is None else mask,
        )
    if mask is None:
        mask = os.umask(0o77)
        os.umask(mask)
    python, *arguments = command if shared else (sys.executable, *command)
    order = Order(arguments, str(cwd), dict(env), mask, session=True)
    streams = [each if isinstance(each, int) else each.fileno() for each in (stdin, stdout, stderr)]
    return _server(python, *shared).start(order, streams)


def run(
    command: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    stdin: str = "",
    timeout_s: float,
    anew: bool = False,
    shared: Sequence[str] = (),
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end, its output caught. Raises subprocess.TimeoutExpired."""
    with (
        tempfile.TemporaryFile() as given,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
    ):
        given.write(stdin.encode())
        given.seek(0)
        process = start(
            command,
            cwd=cwd,
            env=env,
            stdin=given,
            stdout=out,
            stderr=err,
            anew=anew,
            shared=shared,
        )
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    return subprocess.CompletedProcess(command, code, *texts)


def can_fork(command: Sequence[str], env: Mapping[str, str]) -> bool:
    """Whether a fork of the server is the same as a start anew."""
    ours = command[0] in SCRIPTS or tuple(command[:3]) == MODULE
    told = {name: value for name, value in env.items() if name.startswith("PYTHON")}
    return ours and hasattr(os, "fork") and told.items() <= _FORKED_ENVIRON.items()


class Forked:
    """A process that the server has forked; used as a `subprocess.Popen`."""

    def __init__(self, pid: int, arguments: Sequence[str], status: int) -> None:
        self.pid = pid
        self.args = arguments
        self._status = status
        """Reading end of where its status comes."""
        self._code: int | None = None
        self._lock = threading.Lock()

    @property
    def returncode(self) -> int | None:
        return self._code

    def poll(self) -> int | None:
        return self._wait(0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._wait(timeout)
        if code is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(self.args, timeout)
        return code

    def _wait(self, timeout_s: float | None) -> int | None:
        with self._lock:
            if self._code is None:
                poll = select.poll()
                poll.register(self._status, select.POLLIN)
                if poll.poll(None if timeout_s is None else timeout_s * 1000):
                    told = os.read(self._status, STATUS.size)
                    os.close(self._status)
                    if not told:
                        raise RuntimeError("the fork server has ended before what it started")
                    self._code = os.waitstatus_to_exitcode(*STATUS.unpack(told))
            return self._code

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            try:
                os.kill(self.pid, sig)
            except ProcessLookupError:
                pass  # it has ended just now

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class _Server:
    """A fork server of this process."""

    def __init__(self, python: str, *modules: str) -> None:
        self._line, theirs = socket.socketpair()
        kept = ("PATH", "LANG", "LC_ALL", "TMPDIR")
        environ = {name: os.environ[name] for name in kept if name in os.environ}
        environ |= {n: v for n, v in os.environ.items() if n.startswith("COVERAGE_")}
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [python, forkserver.__file__, str(theirs.fileno()), *modules],
            cwd=ROOT,
            env=environ if modules else environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        theirs.close()
        atexit.register(self._stop)

    def start(self, order: Order, streams: Sequence[int]) -> Forked:
        told, status = os.pipe()
        text = json.dumps(asdict(order)).encode()
        with self._lock:
            socket.send_fds(self._line, [LENGTH.pack(len(text))], [*streams, status])
            self._line.sendall(text)
            answer = self._line.recv(PID.size, socket.MSG_WAITALL)
        os.close(status)
        if not answer:
            raise RuntimeError(f"the fork server has ended with {self._process.wait()}")
        return Forked(PID.unpack(answer)[0], order.arguments, told)

    def _stop(self) -> None:
        self._line.close()
        self._process.wait()


_servers: dict[tuple[str, ...], _Server] = {}
_making = threading.Lock()


def _server(python: str, *modules: str) -> _Server:
    with _making:
        if (python, *modules) not in _servers:
            _servers[python, *modules] = _Server(python, *modules)
        return _servers[python, *modules]
