"""The program as it stands in its files, and becoming it anew without losing what it has.

After an upgrade the parent runs the new code: the process executes the program again, and keeps its
id, its listening sockets and its workers. What it has goes by numbers of descriptors and processes
in one variable; keys are read again from where they stand.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import llamakey_addon
from llamakey_addon.serve.ports import Listener, Role

_VARIABLE: Final = "LLAMAKEY_HERITAGE"
_REHEARSAL: Final = "rehearsal"
_CODE: Final = (".py", ".yaml", ".json")

type Print = frozenset[tuple[str, int, int, int]]


@dataclass(frozen=True, slots=True)
class Heir:
    """A worker that outlives the parent's life in which it was started."""

    pid: int
    descriptor: int
    """Of the parent's end of its line."""
    state: Literal["serving", "ending"]

    def socket(self) -> socket.socket:
        end = socket.socket(fileno=self.descriptor)
        end.set_inheritable(False)
        return end


@dataclass(frozen=True, slots=True)
class Heritage:
    """What a process has from its former life."""

    addresses: dict[Role, str]
    listeners: list[Listener]
    heirs: list[Heir]


def fingerprint() -> Print:
    """Changes with the package's files, with what is installed beside it, and with Python."""
    package = Path(llamakey_addon.__file__).parent
    paths = [path for path in package.rglob("*") if path.suffix in _CODE]
    paths += [Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")]
    prints = set()
    for path in (*paths, Path(sys.executable)):
        try:
            found = path.stat()
        except OSError:
            continue
        prints.add((str(path), found.st_mtime_ns, found.st_size, found.st_ino))
    return frozenset(prints)


def rehearse() -> subprocess.Popen[bytes]:
    """A process that starts as this one would and ends before it serves; 0 where all is well."""
    return subprocess.Popen(  # noqa: S603  ourselves
        _command(),
        env={**os.environ, _VARIABLE: _REHEARSAL},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        close_fds=True,
    )


def is_rehearsal() -> bool:
    return os.environ.get(_VARIABLE) == _REHEARSAL


def become_anew(
    addresses: Mapping[Role, str], listeners: Sequence[Listener], heirs: Sequence[Heir]
) -> OSError:
    """Returns only where that fails."""
    kept = [each.fileno() for listener in listeners for each in listener.sockets]
    kept += [heir.descriptor for heir in heirs]
    os.environ[_VARIABLE] = json.dumps(
        {
            "addresses": dict(addresses),
            "listeners": [
                [listener.role, [each.fileno() for each in listener.sockets]]
                for listener in listeners
            ],
            "heirs": [[heir.pid, heir.descriptor, heir.state] for heir in heirs],
        }
    )
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    try:
        for descriptor in kept:
            os.set_inheritable(descriptor, True)
        os.execv(sys.executable, _command())  # noqa: S606  ourselves
    except OSError as error:
        return error
    finally:
        del os.environ[_VARIABLE]
        for descriptor in kept:
            os.set_inheritable(descriptor, False)


def heritage() -> Heritage | None:
    """What `become_anew` has left for this process; once."""
    if is_rehearsal():
        return None
    text = os.environ.pop(_VARIABLE, "")
    if not text:
        return None
    left = json.loads(text)
    listeners = []
    for role, descriptors in left["listeners"]:
        sockets = tuple(socket.socket(fileno=number) for number in descriptors)
        for each in sockets:
            each.set_inheritable(False)
        listeners.append(Listener(role, sockets))
    return Heritage(left["addresses"], listeners, [Heir(*heir) for heir in left["heirs"]])


def _command() -> list[str]:
    # -P: the folder it was started in has no say in what is imported
    return [sys.executable, "-P", "-m", "llamakey_addon", *sys.argv[1:]]
