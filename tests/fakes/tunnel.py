"""A company's proxy: CONNECT leads to fakes, whatever the name that was asked for."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Tunnels:
    """Listens on `port`; `asked` are the authorities of the CONNECTs, in their order."""

    def __init__(self, leads_to: Callable[[str], int]) -> None:
        self._leads_to = leads_to
        self._server = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.port: int = self._server.getsockname()[1]
        self.asked: list[str] = []

    def serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            self._open.append(client)
            threading.Thread(target=self._lead, args=(client,), daemon=True).start()

    def _lead(self, client: socket.socket) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            data = client.recv(1)
            if not data:
                return
            head += data
        authority = head.split(b" ")[1].decode()
        self.asked.append(authority)
        provider = socket.create_connection(("127.0.0.1", self._leads_to(authority)))
        self._open.append(provider)
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        for one, other in ((client, provider), (provider, client)):
            threading.Thread(target=_copy, args=(one, other), daemon=True).start()

    def close(self) -> None:
        for each in (self._server, *self._open):
            with _quiet():
                each.shutdown(socket.SHUT_RDWR)
            each.close()


def _copy(one: socket.socket, other: socket.socket) -> None:
    with _quiet():
        while data := one.recv(65536):
            other.sendall(data)
    with _quiet():
        other.shutdown(socket.SHUT_WR)


@contextmanager
def _quiet() -> Iterator[None]:
    try:
        yield
    except OSError:
        pass  # the other end has left


@contextmanager
def tunnels(leads_to: Callable[[str], int]) -> Iterator[Tunnels]:
    """Arguments: `leads_to` gives the port of a fake for an authority such as `a.example:443`."""
    running = Tunnels(leads_to)
    threading.Thread(target=running.serve, daemon=True).start()
    try:
        yield running
    finally:
        running.close()
