"""Is the port free, and if not, who holds it."""

from __future__ import annotations

import contextlib
import errno
import http.client
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from llamakey_addon.config import Listen
from llamakey_addon.errors import LlamaKeyError

type Role = Literal["front", "door"]
"""What is behind a listener. `front`: the providers, each under its prefix; `door`: the second
door, where the host chooses the provider."""

#: Connections that wait to be accepted. asyncio's 100 makes clients of a burst wait a second, until
#: they ask again.
BACKLOG = 4096
_LISTENING = "0A"  # TCP_LISTEN, as /proc/net/tcp writes it


class PortTaken(LlamaKeyError):
    """The address to listen on can't be had; the message says why and names the remedy."""


@dataclass(frozen=True, slots=True)
class Listener:
    """An address that is listened on: one socket for each of its families."""

    role: Role
    sockets: tuple[socket.socket, ...]

    @property
    def port(self) -> int:
        port: int = self.sockets[0].getsockname()[1]
        return port

    def close(self) -> None:
        for each in self.sockets:
            each.close()


def listeners(wanted: Mapping[Role, Listen]) -> list[Listener]:
    """Listen on all of these addresses, or on none. Raises PortTaken."""
    with contextlib.ExitStack() as stack:
        made = []
        for role, listen in wanted.items():
            made.append(Listener(role, tuple(listening(listen, role))))
            stack.callback(made[-1].close)
        stack.pop_all()
    return made


def claim(listen: Listen, role: Role = "front") -> int:
    """The port to serve on: the one asked for, or a free one for 0. Nothing is kept open.

    Raises PortTaken.
    """
    sockets = listening(listen, role)
    port: int = sockets[0].getsockname()[1]
    for each in sockets:
        each.close()
    return port


def listening(listen: Listen, role: Role = "front") -> list[socket.socket]:
    """Sockets that listen there, one a family, on the same port; who connects waits from now on.

    Raises PortTaken.
    """
    try:
        with contextlib.ExitStack() as stack:
            sockets = _open(listen, stack)
            stack.pop_all()
            return sockets
    except OSError as error:
        raise PortTaken(_explain(listen, role, error)) from None


def _open(listen: Listen, stack: contextlib.ExitStack) -> list[socket.socket]:
    port = listen.port
    try:
        found = socket.getaddrinfo(
            listen.host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except socket.gaierror as error:
        raise OSError(errno.EADDRNOTAVAIL, f"{listen.host}: {error.strerror}") from None
    sockets: list[socket.socket] = []
    for family, kind, protocol, _, address in dict.fromkeys(found):
        try:
            sock = stack.enter_context(socket.socket(family, kind, protocol))
        except OSError:
            continue  # a family that this machine has not
        if os.name == "posix":
            # Connections that have just ended don't hold the port.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            sock.bind((address[0], port, *address[2:]))
            sock.listen(BACKLOG)
        except OSError as error:
            # An address of a family that is switched off.
            if error.errno == errno.EADDRNOTAVAIL and len(found) > 1:
                sock.close()
                continue
            raise
        sockets.append(sock)
        # The same free port for every family.
        port = port or sock.getsockname()[1]
    if not sockets:
        raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    return sockets


def _explain(listen: Listen, role: Role, error: OSError) -> str:
    how = "lmk serve --listen" if role == "front" else "in config.yaml, door.listen:"
    other = f"{how} {_with_port(listen, listen.port + 1 if listen.port < 65535 else 8001)}"
    match error.errno:
        case errno.EADDRINUSE:
            who = holder(listen.port)
            if is_llamakey(listen):
                return (
                    f"Port {listen.port} is in use by a LlamaKey{f', {who}' if who else ''}. "
                    f"Use that one, stop it, or start this one elsewhere: {other}"
                )
            return (
                f"Port {listen.port} is taken: it is in use by {who or 'another process'}. "
                f"Stop what holds it, or choose another port: {other}"
            )
        case errno.EACCES:
            above = _with_port(listen, 8000)
            return (
                f"This user may not open port {listen.port}: ports below 1024 are the system's. "
                f"Choose a higher one: {how} {above}"
            )
        case errno.EADDRNOTAVAIL:
            return (
                f"This machine has no address {listen.host!r} to listen on. Choose another: "
                f"{how} localhost:{listen.port} (or 0.0.0.0 for every address)"
            )
    return f"{listen} can't be listened on ({error.strerror}). Choose another: {other}"


def _with_port(listen: Listen, port: int) -> str:
    return str(Listen(listen.host, port))


def is_llamakey(listen: Listen) -> bool:
    """Whether a LlamaKey answers there, within a second."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(listen.host, listen.host)  # noqa: S104
    connection = http.client.HTTPConnection(host, listen.port, timeout=1)
    try:
        connection.request("GET", "/_llamakey/health")
        return b'"status"' in connection.getresponse().read(200)
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def holder(port: int) -> str:
    """Who listens on a port, as `python (pid 4711)`; "" where the system does not tell.

    Only Linux does, by way of /proc.
    """
    inodes = _listeners(port)
    if not inodes:
        return ""
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            for descriptor in (process / "fd").iterdir():
                # The one look that may fail at any moment: processes end while one reads.
                with contextlib.suppress(OSError):
                    if os.readlink(descriptor) in inodes:
                        name = (process / "comm").read_text(errors="replace").strip()
                        return f"{name} (pid {process.name})"
        except OSError:
            continue  # another user's process
    return "a process of another user"


def _listeners(port: int) -> set[str]:
    """Links that a descriptor of a listener on `port` has, e.g. `socket:[12345]`."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(f"socket:[{fields[9]}]")
    return found
