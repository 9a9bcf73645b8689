"""A command of ours as scripts of a shell call it, in a fraction of the time.

In place of the command stands a small program that hands what it was called with, its descriptors
and all, to a thread of the worker, which forks the command (`tests/starts.py`).
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from tests import starts

LENGTH = struct.Struct("!I")
CODE = struct.Struct("!i")

_PROGRAM = """\
#!{python} -IS
import json, os, signal, socket, struct, sys
mask = os.umask(0)
os.umask(mask)
text = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ), mask]).encode()
line = socket.socket(socket.AF_UNIX)
line.connect({address!r})
socket.send_fds(line, [struct.pack("!I", len(text))], [0, 1, 2])
line.sendall(text)
told = line.recv(4, socket.MSG_WAITALL)
code = struct.unpack("!i", told)[0] if told else 70
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


@contextlib.contextmanager
def stand_in(program: Path, command: Path) -> Iterator[None]:
    """Writes `program`, which is as `command` until the end of the block."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        address = f"{folder}/line"  # a path of pytest's may be longer than a socket's can be
        listener.bind(address)
        listener.listen()
        program.write_text(_PROGRAM.format(python=sys.executable, address=address))
        program.chmod(0o755)
        accepting = threading.Thread(target=_accept, args=(listener, command), daemon=True)
        accepting.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()


def _accept(listener: socket.socket, command: Path) -> None:
    with contextlib.suppress(OSError):  # the end of the block
        while True:
            line, _ = listener.accept()
            threading.Thread(target=_run, args=(line, command), daemon=True).start()


def _run(line: socket.socket, command: Path) -> None:
    with line:
        first, descriptors, _, _ = socket.recv_fds(line, LENGTH.size, 3)
        try:
            [length] = LENGTH.unpack(first)
            text = line.recv(length, socket.MSG_WAITALL)
            arguments, folder, environ, mask = json.loads(text)
            process = starts.start(
                [str(command), *arguments],
                cwd=Path(folder),
                env=environ,
                stdin=descriptors[0],
                stdout=descriptors[1],
                stderr=descriptors[2],
                mask=mask,
            )
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        line.sendall(CODE.pack(process.wait()))
