"""A world of fake providers in one thread: ports, recordings, gates, scripts."""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import ssl
import threading
import weakref
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.canary import forms
from tests.fakes import google
from tests.fakes.certs import Certificates
from tests.fakes.families import FAMILIES
from tests.fakes.server import LOCAL_KEY, serve
from tests.fakes.steps import Deaf, Gate
from tests.fakes.wire import Reply, Request

CLOSE = "close"
RESET = "reset"
type Step = bytes | Gate | Deaf | str
"""A step of a script: bytes to write, a gate to pass, CLOSE (an orderly end) or RESET."""
_LOCAL_KEYS = (LOCAL_KEY.upper(), *forms(LOCAL_KEY.decode()))
"""Every form of every local key begins with one of these (or ends, where it is turned round). There
are hundreds of keys in a run, and all that comes is searched."""


@dataclass(slots=True)
class Line:
    """One connection as a fake saw it."""

    number: int
    family: str
    peer: int
    """The client's port."""
    sni: str = ""
    bytes_in: int = 0
    first_bytes: bytes = b""
    """Up to 64 KiB of what came, before any parsing."""
    malformed: str = ""
    """What h11 held against it, or ""."""
    open: bool = True
    local_key: bytes = b""
    """What stood around the first forbidden form, or nothing."""

    def took(self, data: bytes, forbidden: Sequence[bytes]) -> None:
        """Notes bytes that came, and a forbidden form that stands in them, across borders too."""
        self.bytes_in += len(data)
        if len(self.first_bytes) < 65536:
            self.first_bytes += data[: 65536 - len(self.first_bytes)]
        seen = self._tail + data
        for form in forbidden:
            if not self.local_key and form in seen:
                self.local_key = seen[max(0, seen.index(form) - 200) :][:400]
        self._tail = seen[-512:]

    _tail: bytes = b""


class World:
    """Starts on creation; `stop()` (or leaving the `with`) ends it.

    Arguments:
        folder: where the CA's certificate is written.
    """

    def __init__(self, folder: Path) -> None:
        self.certificates = Certificates(folder)
        self._lock = threading.Condition()
        self._requests: list[Request] = []
        self._answered: set[int] = set()
        self._lines: list[Line] = []
        self._keys = {id: family.make_key(secrets.token_hex(24)) for id, family in FAMILIES.items()}
        self._forbidden = _LOCAL_KEYS
        self._gates: dict[str, Gate] = {}
        self._scripts: dict[str, tuple[Step, ...]] = {}
        self._forced: dict[tuple[str, str], Reply] = {}
        self._switches: dict[tuple[str, str], tuple[Step, ...]] = {}
        self._switched: set[int] = set()
        self._ports: dict[tuple[str, str], int] = {}
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._names: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fakes", daemon=True)
        self._thread.start()

    def __enter__(self) -> World:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    # -- where the fakes are, and what they demand

    @property
    def ca(self) -> Path:
        """PEM file to trust."""
        return self.certificates.ca

    def origin(self, family: str, certificate: str = "good") -> str:
        """`https://localhost:PORT` of a provider's fake; starts it on first use.

        `certificate` is a kind of `certs.KINDS`, or `plain` for http.
        """
        scheme = "http" if certificate == "plain" else "https"
        return f"{scheme}://localhost:{self.port(family, certificate)}"

    def port(self, family: str, certificate: str = "good") -> int:
        place = (family, certificate)
        if place not in self._ports:
            self._ports[place] = self._run(self._listen(family, certificate))
        return self._ports[place]

    def key(self, family: str) -> str:
        """The real key that this provider demands, one of its own for each world."""
        return self._keys[family]

    def set_key(self, family: str, key: str) -> None:
        """From now on the provider demands another key."""
        self._keys[family] = key

    @property
    def keys(self) -> dict[str, str]:
        return dict(self._keys)

    @property
    def service_account(self) -> Path:
        """The owner's credentials file of Google's; its token server is the fake."""
        path = self.ca.parent / "service-account.json"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(json.dumps(google.account(f"{self.origin('google-oauth')}/token")))
        return path

    # -- what the test makes them do

    def gate(self, name: str) -> Gate:
        """The gate of that name, made on first use."""
        with self._lock:
            return self._gates.setdefault(name, Gate(name))

    def script(self, name: str, *steps: Step) -> str:
        """Makes `/odd/script/NAME` perform these steps in place of an answer; returns the path."""
        with self._lock:
            self._scripts[name] = steps
        return f"/odd/script/{name}"

    def steps(self, name: str) -> tuple[Step, ...]:
        with self._lock:
            return self._scripts.get(name, ())

    def force(self, family: str, path: str, reply: Reply | None) -> None:
        """Answers `path` of a provider by this reply, credential checked; None ends it."""
        with self._lock:
            if reply is None:
                self._forced.pop((family, path), None)
            else:
                self._forced[family, path] = reply

    def forced(self, family: str, path: str) -> Reply | None:
        with self._lock:
            return self._forced.get((family, path))

    def switch(self, family: str, path: str, *steps: Step) -> None:
        """Makes `path` perform these steps for whoever asks it for a WebSocket; none ends it."""
        with self._lock:
            if steps:
                self._switches[family, path] = steps
            else:
                self._switches.pop((family, path), None)

    def switch_steps(self, family: str, path: str) -> tuple[Step, ...] | None:
        with self._lock:
            return self._switches.get((family, path))

    # -- what was seen

    def mark(self) -> int:
        """A point in the recording, for `requests(since=…)`."""
        with self._lock:
            return len(self._requests)

    def requests(self, family: str | None = None, since: int = 0) -> list[Request]:
        """Requests in the order in which their heads came."""
        with self._lock:
            found = self._requests[since:]
        return [request for request in found if family in (None, request.family)]

    def wait_for(
        self, count: int, family: str | None = None, since: int = 0, timeout_s: float = 45
    ) -> list[Request]:
        """Returns when so many requests were answered or broke off; raises TimeoutError."""

        def done() -> list[Request]:
            return [
                request
                for request in self._requests[since:]
                if family in (None, request.family) and id(request) in self._answered
            ]

        with self._lock:
            if not self._lock.wait_for(lambda: len(done()) >= count, timeout_s):
                raise TimeoutError(f"{len(done())} of {count} requests came within {timeout_s} s")
            return done()

    def wait_recorded(
        self, count: int, family: str | None = None, since: int = 0, timeout_s: float = 45
    ) -> list[Request]:
        """Returns when the heads of so many requests came; raises TimeoutError."""

        def found() -> list[Request]:
            return [r for r in self._requests[since:] if family in (None, r.family)]

        with self._lock:
            if not self._lock.wait_for(lambda: len(found()) >= count, timeout_s):
                raise TimeoutError(f"{len(found())} of {count} heads came within {timeout_s} s")
            return found()

    def wait_switched(
        self, family: str | None = None, since: int = 0, timeout_s: float = 45
    ) -> Request:
        """The first request since then that has become a WebSocket; raises TimeoutError."""

        def found() -> list[Request]:
            return [
                request
                for request in self._requests[since:]
                if family in (None, request.family) and id(request) in self._switched
            ]

        with self._lock:
            if not self._lock.wait_for(found, timeout_s):
                raise TimeoutError(f"no WebSocket was opened within {timeout_s} s")
            return found()[0]

    def wait_closed(self, connection: int, timeout_s: float = 45) -> bool:
        """Whether that connection was closed within this time, by either side."""
        with self._lock:
            line = self._lines[connection - 1]
            return self._lock.wait_for(lambda: not line.open, timeout_s)

    def lines(self, family: str | None = None) -> list[Line]:
        """Connections, those included that never sent a byte."""
        with self._lock:
            return [line for line in self._lines if family in (None, line.family)]

    @property
    def violations(self) -> list[str]:
        """What a provider must never see: a local key, anywhere in what came over a connection."""
        with self._lock:
            return [
                f"connection {line.number} to {line.family}: {line.local_key!r}"
                for line in self._lines
                if line.local_key
            ]

    def forbid(self, secret: str) -> None:
        """From now on this text is a violation in every form; local keys are one always."""
        if secret.startswith(LOCAL_KEY.decode()):
            return
        with self._lock:
            self._forbidden += forms(secret)

    # -- for the server

    def took(self, line: Line, data: bytes) -> None:
        line.took(data, self._forbidden)

    def recorded(self, request: Request) -> None:
        with self._lock:
            self._requests.append(request)
            self._lock.notify_all()

    def switched(self, request: Request) -> None:
        with self._lock:
            self._switched.add(id(request))
            self._lock.notify_all()

    def answered(self, request: Request) -> None:
        with self._lock:
            self._answered.add(id(request))
            self._lock.notify_all()

    # -- life

    def stop(self) -> None:
        """Closes every port and connection and ends the thread. May be called twice."""
        if not self._thread.is_alive():
            return
        for gate in self._gates.values():
            gate.open()
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _run[T](self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(self, family: str, certificate: str) -> int:
        if family not in FAMILIES:
            raise ValueError(f"no fake is called {family!r}: use one of {sorted(FAMILIES)}")

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            line = self._new_line(family, writer)
            try:
                await serve(self, FAMILIES[family], line, reader, writer)
            except asyncio.CancelledError:
                # only `stop` cancels, and asyncio's streams would report it as a failure
                writer.transport.abort()
            finally:
                with self._lock:
                    line.open = False
                    self._lock.notify_all()

        context = self._context(certificate)
        server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context, limit=2**20)
        for each in server.sockets:
            # else the system gives up to 32 MB to a fake that does not read
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**20)
        port: int = server.sockets[0].getsockname()[1]
        self._servers.append(server)
        # `localhost` may mean ::1 first; nobody else's server must answer there in our place
        try:
            self._servers.append(
                await asyncio.start_server(connected, "::1", port, ssl=context, limit=2**20)
            )
        except OSError:
            pass
        return port

    def _context(self, certificate: str) -> ssl.SSLContext | None:
        if certificate == "plain":
            return None
        context = self.certificates.context(certificate)

        def named(channel: Any, name: str | None, _: ssl.SSLContext) -> None:
            self._names[channel] = name or ""

        context.sni_callback = named
        return context

    def _new_line(self, family: str, writer: asyncio.StreamWriter) -> Line:
        channel = writer.get_extra_info("ssl_object")
        peer: Sequence[Any] = writer.get_extra_info("peername") or ("", 0)
        sni = self._names.get(channel, "") if channel is not None else ""
        with self._lock:
            line = Line(number=len(self._lines) + 1, family=family, peer=int(peer[1]), sni=sni)
            self._lines.append(line)
        return line
