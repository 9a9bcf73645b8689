"""The parent of forked commands: has imported what they import, `lmk` and mitmproxy's commands.

`python forkserver.py FD` reads orders from the socket FD (`tests/starts.py` sends them) and makes
each a process by a fork. In it the command's own script runs from its first line, as `__main__`,
with its own arguments, environment, folder, descriptors and session; what it does not do again is
the second of imports. The end of the socket is the end of the server and of what it started.

`python forkserver.py FD MODULE…` is the same for scripts of another environment than ours, which
have these modules in common.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import io
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import struct
import sys
import threading
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TextIO

#: Length of an order's text, sent with its descriptors: standard input, output and error, and
#: where the server writes the status once the process has ended.
LENGTH = struct.Struct("!I")
DESCRIPTORS = 4
#: The answer to an order is a process id; at the end of the process comes its wait status.
PID = struct.Struct("!I")
STATUS = struct.Struct("!i")

_OTHERS = (
    "mitmproxy.tools.main",
    "mitmproxy.tools.cmdline",
    "mitmproxy.tools.dump",
    "mitmproxy.tools.web.master",
    "rich.console",
    "rich.panel",
    "rich.table",
    "rich.text",
)
"""What is imported only when a command runs, and not by the package's own modules."""


@dataclass(frozen=True, slots=True)
class Order:
    """A command to run."""

    arguments: list[str]
    """A script of Python and its arguments; or `python -m MODULE` and its arguments."""
    folder: str
    environ: dict[str, str]
    umask: int
    session: bool
    """Whether it leads a session of its own."""


def preload(names: Sequence[str]) -> None:
    """Import these modules, as far as they are there; nothing of them may start a thread."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations of other people's modules
        for name in names:
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
    assert threading.active_count() == 1
    assert len(os.listdir("/proc/self/task")) == 1 if os.path.exists("/proc/self/task") else True


def preload_ours() -> None:
    """Import all that a command of ours may need."""
    import llamakey_addon
    from llamakey_addon import catalogue

    for module in pkgutil.walk_packages(llamakey_addon.__path__, "llamakey_addon."):
        if module.name.rpartition(".")[2] not in ("__main__", "script"):
            with contextlib.suppress(ImportError):  # an extra that is not installed
                importlib.import_module(module.name)
    preload(_OTHERS)
    catalogue.load()


class Server:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._woken, self._wake = os.pipe()
        for descriptor in (self._woken, self._wake):
            os.set_blocking(descriptor, False)
        self._status: dict[int, int] = {}
        """Where to write the status of a running process, by its id."""

    def next_order(self) -> Order | None:
        """Forks for every order that comes. Returns in a fork, its order; None in the server."""
        # Ctrl-C is for those who started this; who runs beside a shell (`&`) never hears it.
        self._on_interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        poll = select.poll()
        for descriptor in (self._control.fileno(), self._woken):
            poll.register(descriptor, select.POLLIN)
        while True:
            ready = [descriptor for descriptor, _ in poll.poll()]
            if self._woken in ready:
                self._reap()
            if self._control.fileno() in ready:
                first, descriptors, _, _ = socket.recv_fds(self._control, LENGTH.size, DESCRIPTORS)
                if not first:
                    self._end()
                    return None
                order = Order(**json.loads(self._read(*LENGTH.unpack(first))))
                pid = os.fork()
                if pid == 0:
                    self._become(order, descriptors)
                    return order
                *theirs, self._status[pid] = descriptors
                for descriptor in theirs:
                    os.close(descriptor)
                self._control.sendall(PID.pack(pid))

    def _read(self, length: int) -> bytes:
        data = bytearray()
        while len(data) < length:
            piece = self._control.recv(length - len(data))
            if not piece:
                raise EOFError("an order without its end")
            data += piece
        return bytes(data)

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._woken, 4096)
        while self._status:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            descriptor = self._status.pop(pid)
            with contextlib.suppress(BrokenPipeError):  # nobody waits for it any more
                os.write(descriptor, STATUS.pack(status))
            os.close(descriptor)

    def _end(self) -> None:
        """Nobody is left who could stop what runs."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in self._status:
                os.kill(pid, number)
            end_s = time.monotonic() + 5
            while self._status and time.monotonic() < end_s:
                self._reap()
                time.sleep(0.02)

    def _become(self, order: Order, descriptors: list[int]) -> None:
        """In a fork: make the process what a start by the shell would have made it."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, self._on_interrupt)
        if order.session:
            os.setsid()
        for number, descriptor in enumerate(descriptors[:3]):
            os.dup2(descriptor, number)
        for descriptor in (*descriptors, *self._status.values(), self._woken, self._wake):
            os.close(descriptor)
        self._control.close()
        os.umask(order.umask)
        os.environ.clear()
        os.environ.update(order.environ)
        time.tzset()
        os.chdir(order.folder)
        unbuffered = bool(order.environ.get("PYTHONUNBUFFERED"))
        sys.stdin = sys.__stdin__ = _text(0, "r", _ERRORS, unbuffered)  # type: ignore[misc,assignment]
        sys.stdout = sys.__stdout__ = _text(1, "w", _ERRORS, unbuffered)  # type: ignore[misc,assignment]
        sys.stderr = sys.__stderr__ = _text(2, "w", "backslashreplace", unbuffered)  # type: ignore[misc,assignment]


_ERRORS = sys.stdout.errors


def _text(number: int, mode: str, errors: str | None, unbuffered: bool = False) -> TextIO:
    """A standard stream as Python makes it at its start."""
    buffering = 0 if unbuffered and mode == "w" else -1
    raw = open(number, f"{mode}b", buffering, closefd=False)  # noqa: SIM115
    text = io.TextIOWrapper(
        raw,
        encoding="utf-8",
        errors=errors,
        newline="\n" if mode == "w" else None,
        line_buffering=not unbuffered and (number == 2 or os.isatty(number)),
        write_through=unbuffered,
    )
    text.mode = mode  # type: ignore[misc]
    return text


def run(order: Order) -> None:
    """As the interpreter does with its command line."""
    first, *rest = order.arguments
    if rest[:1] == ["-m"]:
        module, *arguments = rest[1:]
        sys.path[0] = order.folder
        sys.argv[:] = ["-m", *arguments]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = str(Path(first).parent)
        sys.argv[:] = order.arguments
        runpy.run_path(first, run_name="__main__")


def end(code: int) -> NoReturn:
    """The end of an interpreter, less the taking apart of modules: that alone would be most of it.

    What is no plain exit code takes the whole way.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    gc.collect()  # what says something when it goes
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code & 0xFF)


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    sys.path[0] = os.path.dirname(os.__file__)  # until a fork has its own: nothing of this folder
    if names := sys.argv[2:]:
        preload(names)
    else:
        preload_ours()
    gc.collect()
    gc.freeze()  # what all forks share stays as it is
    order = Server(control).next_order()
    if order is None:
        return
    try:
        run(order)
    except SystemExit as exit:
        if not isinstance(exit.code, int | None):
            raise
        end(exit.code or 0)
    end(0)


if __name__ == "__main__":
    main()
