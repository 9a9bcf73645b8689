"""Who is at the other end of a connection from this machine, as the system tells."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Final

_TABLES: Final = {socket.AF_INET: "/proc/net/tcp", socket.AF_INET6: "/proc/net/tcp6"}
_ESTABLISHED: Final = "01"


def is_own_user(connection: socket.socket) -> bool:
    """Whether the other end of an accepted TCP connection is a process of our own user, on this
    machine. False wherever the system does not tell (it does on Linux).
    """
    table = _TABLES.get(connection.family)
    if table is None or sys.platform != "linux":
        return False
    try:
        # The other end's socket: what is remote for us is local for it.
        wanted = (_hex(connection.getpeername()), _hex(connection.getsockname()), _ESTABLISHED)
    except OSError:
        return False  # it has left
    owners = set()
    for path in _candidates(connection, table):
        try:
            lines = Path(path).read_text("ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            words = line.split()
            if tuple(words[1:4]) == wanted or _as_mapped(words, wanted):
                owners.add(int(words[7]))
    return owners == {os.getuid()}


def _candidates(connection: socket.socket, table: str) -> tuple[str, ...]:
    # A client may reach an IPv4 address by a socket of IPv6's, and we be reached so.
    return (table, *(path for path in _TABLES.values() if path != table))


def _as_mapped(words: list[str], wanted: tuple[str, str, str]) -> bool:
    """Whether one table's IPv4 addresses are the other's mapped into IPv6."""
    ends = [tuple(end.rsplit(":", 1)) for end in (words[1], words[2], wanted[0], wanted[1])]
    tails = [f"{address[-8:]}:{port}" for address, port in ends]
    mapped = [len(address) == 8 or address[:-8] == _MAPPED for address, _ in ends]
    return all(mapped) and tails[:2] == tails[2:] and words[3] == wanted[2]


def _words(packed: bytes) -> str:
    """As the kernel prints an address: words of 32 bits in its own byte order."""
    return "".join(
        f"{int.from_bytes(packed[at : at + 4], sys.byteorder):08X}"
        for at in range(0, len(packed), 4)
    )


_MAPPED: Final = _words(bytes(10) + b"\xff\xff")


def _hex(address: tuple[str | int, ...]) -> str:
    host = str(address[0]).partition("%")[0]
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return f"{_words(socket.inet_pton(family, host))}:{int(address[1]):04X}"
