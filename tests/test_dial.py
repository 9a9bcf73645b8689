"""Names and addresses, on loopback: a second look beside, dead addresses, who wins."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from llamakey_addon import dial
from llamakey_addon.dial import Address, Names, connect, open_socket
from tests.loops import event_loop_policy as event_loop_policy


@pytest.fixture(params=[True, False], ids=["eager", "lazy"])
async def tasks(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """Both kinds of tasks: mitmproxy's are eager."""
    loop = asyncio.get_running_loop()
    before = loop.get_task_factory()
    loop.set_task_factory(asyncio.eager_task_factory if request.param else None)
    yield
    loop.set_task_factory(before)


@contextlib.contextmanager
def listening(host: str = "127.0.0.1") -> Iterator[int]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as server:
        yield server.getsockname()[1]


@contextlib.contextmanager
def full(host: str = "127.0.0.1") -> Iterator[int]:
    """A listener whose queue is full: an attempt there hangs."""
    with socket.socket() as server, contextlib.ExitStack() as stack:
        server.bind((host, 0))
        server.listen(0)
        port: int = server.getsockname()[1]
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex((host, port))
        yield port


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


async def given_up() -> None:
    """No attempt is left, a few turns later."""
    for _ in range(5):
        await asyncio.sleep(0)
    assert [task for task in asyncio.all_tasks() if "coro=<_attempt(" in repr(task)] == []


# ── addresses side by side ──────────────────────────────────────────────────────────────────────


async def test_a_dead_address_of_the_other_family_costs_no_more_than_a_refusal(tasks: None) -> None:
    """IPv6 is tried first, is not there, and the next one is tried at once."""
    with listening() as port:
        dead: Address = (socket.AF_INET6, ("::1", port, 0, 0))
        alive: Address = (socket.AF_INET, ("127.0.0.1", port))
        sock, address = await connect([dead, alive], head_start_s=600)
        assert address == alive
        assert sock.getpeername() == ("127.0.0.1", port)
        sock.close()


async def test_an_address_that_hangs_costs_a_head_start_and_its_attempt_is_given_up(
    tasks: None,
) -> None:
    with full() as stuck, listening("127.0.0.1") as port:
        hanging: Address = (socket.AF_INET, ("127.0.0.1", stuck))
        alive: Address = (socket.AF_INET, ("127.0.0.1", port))
        sock, address = await connect([hanging, alive], head_start_s=0.01)
        assert address == alive
        sock.close()
        await given_up()


async def test_a_slow_one_may_still_win(tasks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second got its try, and failed; the first is waited for."""
    go = asyncio.Event()
    real = dial._connect

    async def slowly(sock: socket.socket, place: Any) -> None:
        if place[1] == slow:
            await go.wait()
        try:
            await real(sock, place)
        finally:
            go.set()

    monkeypatch.setattr(dial, "_connect", slowly)
    with listening() as slow:
        one: Address = (socket.AF_INET, ("127.0.0.1", slow))
        two: Address = (socket.AF_INET, ("127.0.0.1", closed_port()))
        sock, address = await connect([one, two], head_start_s=0.01)
        assert address == one
        sock.close()


async def test_where_none_answers_each_failure_is_told(tasks: None) -> None:
    addresses: list[Address] = [(socket.AF_INET, ("127.0.0.1", closed_port())) for _ in range(2)]
    with pytest.raises(OSError, match=r"127\.0\.0\.1: .*; 127\.0\.0\.1: "):
        await connect(addresses)


async def test_families_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    async def refuse(sock: socket.socket, place: Any) -> None:
        tried.append(sock.family)
        raise ConnectionRefusedError

    monkeypatch.setattr(dial, "_connect", refuse)
    six: list[Address] = [(socket.AF_INET6, ("::1", n, 0, 0)) for n in (1, 2)]
    four: list[Address] = [(socket.AF_INET, ("127.0.0.1", n)) for n in (1, 2)]
    with pytest.raises(OSError):
        await connect([*six, *four])
    assert tried == [socket.AF_INET6, socket.AF_INET] * 2


async def test_a_cancelled_attempt_leaves_nothing(tasks: None) -> None:
    with full() as stuck:
        hanging: Address = (socket.AF_INET, ("127.0.0.1", stuck))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await connect([hanging, hanging], head_start_s=0.001)
        await given_up()


# ── names ───────────────────────────────────────────────────────────────────────────────────────


class Server:
    """A name server of the test's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked = 0
        self.found: list[str] = ["127.0.0.1"]
        self.answer = asyncio.Event()
        self.answer.set()
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", self._look_up)

    async def _look_up(self, host: str, port: int, **_: Any) -> list[Any]:
        self.asked += 1
        await self.answer.wait()
        if not self.found:
            raise socket.gaierror(socket.EAI_AGAIN, "no name server")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in self.found]


async def test_a_name_is_asked_for_once(monkeypatch: pytest.MonkeyPatch, tasks: None) -> None:
    server, names = Server(monkeypatch), Names()
    server.answer.clear()
    looks = [asyncio.ensure_future(names.addresses("a.example", 1)) for _ in range(5)]
    await asyncio.sleep(0.01)
    server.answer.set()
    assert await asyncio.gather(*looks) == [[(socket.AF_INET, ("127.0.0.1", 1))]] * 5
    await names.addresses("a.example", 1)
    assert server.asked == 1


async def test_an_old_answer_is_used_while_a_new_one_is_fetched(
    monkeypatch: pytest.MonkeyPatch, tasks: None
) -> None:
    server, names = Server(monkeypatch), Names(fresh_s=0)
    await names.addresses("a.example", 1)
    server.found = ["127.0.0.2"]
    server.answer.clear()
    assert await names.addresses("a.example", 1) == [(socket.AF_INET, ("127.0.0.1", 1))]
    server.answer.set()
    await asyncio.sleep(0.01)
    server.answer.clear()
    assert await names.addresses("a.example", 1) == [(socket.AF_INET, ("127.0.0.2", 1))]
    server.answer.set()


async def test_a_name_server_that_fails_harms_nobody_who_knows_the_answer(
    monkeypatch: pytest.MonkeyPatch, tasks: None
) -> None:
    server, names = Server(monkeypatch), Names(fresh_s=0)
    await names.addresses("a.example", 1)
    server.found = []
    for _ in range(3):
        assert await names.addresses("a.example", 1)
        await asyncio.sleep(0.01)
    with pytest.raises(OSError, match="no name server"):
        await names.addresses("b.example", 1)


async def test_an_answer_that_is_too_old_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    server, names = Server(monkeypatch), Names(fresh_s=-1, kept_s=-1)
    await names.addresses("a.example", 1)
    server.found = ["127.0.0.2"]
    assert await names.addresses("a.example", 1) == [(socket.AF_INET, ("127.0.0.2", 1))]


async def test_so_many_names_are_remembered_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    server, names = Server(monkeypatch), Names(fresh_s=3600, most=2)
    for host, asked in (
        ("a.example", 1),
        ("b.example", 2),
        ("a.example", 2),
        ("c.example", 3),  # in the place of a, the one looked up first
        ("b.example", 3),
        ("a.example", 4),
    ):
        await names.addresses(host, 1)
        assert (host, server.asked) == (host, asked)
    assert len(names._known) == 2


async def test_an_address_is_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    server, names = Server(monkeypatch), Names()
    assert await names.addresses("127.0.0.1", 80) == [(socket.AF_INET, ("127.0.0.1", 80))]
    assert (await names.addresses("::1", 80))[0][0] == socket.AF_INET6
    assert server.asked == 0


async def test_what_worked_is_tried_first_and_what_failed_is_asked_for_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, names = Server(monkeypatch), Names()
    with listening() as port:
        server.found = ["127.0.0.9", "127.0.0.1"]  # nobody listens on the first
        for asked in (1, 1, 1):
            (await open_socket(names, "a.example", port)).close()
            assert server.asked == asked
        assert (await names.addresses("a.example", port))[0][1][0] == "127.0.0.1"
    with pytest.raises(OSError):
        await open_socket(names, "a.example", port)
    with pytest.raises(OSError):
        await open_socket(names, "a.example", port)
    assert server.asked == 2


async def test_a_connection_is_probed_while_nothing_passes() -> None:
    with listening() as port:
        sock = await open_socket(Names(), "127.0.0.1", port)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        sock.close()
