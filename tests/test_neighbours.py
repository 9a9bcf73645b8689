"""Who is at the other end of a connection, by real sockets."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from llamakey_addon import neighbours

linux = pytest.mark.skipif(sys.platform != "linux", reason="the system does not tell")


def pair(family: socket.AddressFamily, listen: str, connect: str) -> tuple[socket.socket, ...]:
    server = socket.create_server((listen, 0), family=family)
    client = socket.create_connection((connect, server.getsockname()[1]))
    accepted, _ = server.accept()
    server.close()
    return client, accepted


@linux
@pytest.mark.parametrize(
    ("family", "listen", "connect"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
        (socket.AF_INET6, "::1", "::1"),
    ],
)
def test_our_own_process_is_known(family: socket.AddressFamily, listen: str, connect: str) -> None:
    client, accepted = pair(family, listen, connect)
    with client, accepted:
        assert neighbours.is_own_user(accepted)


@linux
def test_a_client_of_ipv4_at_a_socket_of_ipv6() -> None:
    server = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    client = socket.create_connection(("127.0.0.1", server.getsockname()[1]))
    accepted, _ = server.accept()
    server.close()
    with client, accepted:
        assert neighbours.is_own_user(accepted)


@linux
@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root to be another")
def test_another_user_is_none_of_ours(tmp_path: Path) -> None:
    server = socket.create_server(("127.0.0.1", 0))
    program = textwrap.dedent(f"""
        import os, socket
        "read before we may not".encode("idna")
        os.setgid(65534); os.setuid(65534)
        client = socket.create_connection(("127.0.0.1", {server.getsockname()[1]}))
        client.recv(1)
    """)
    child = subprocess.Popen([sys.executable, "-S", "-c", program], cwd="/")
    try:
        server.settimeout(45)
        accepted, _ = server.accept()
        with accepted:
            assert not neighbours.is_own_user(accepted)
    finally:
        server.close()
        child.wait(60)


@linux
def test_one_that_has_left_is_nobody() -> None:
    client, accepted = pair(socket.AF_INET, "127.0.0.1", "127.0.0.1")
    with accepted:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        assert not neighbours.is_own_user(accepted)


def test_a_socket_that_is_no_tcp_is_nobodys() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert not neighbours.is_own_user(one)
