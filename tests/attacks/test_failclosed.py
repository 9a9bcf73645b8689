"""Failing closed on a live proxy: whatever breaks inside, nothing is sent that was not judged."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import re
import socket
import sqlite3
import ssl
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.attacks.conftest import LIMITS, Door, open_door, refused
from tests.attacks.sabotage import Saboteur, start_with_saboteur
from tests.client import Answer, Closed
from tests.conftest import Start
from tests.fakes import Request, World
from tests.harness import Mode, Proxy, _ticks

# mitmdump prints flows, so a body that fits into one is read before it is judged
CONFIG = {
    **LIMITS,
    "view": {"body_bytes": 1000},
    "prices": [{"provider": "*", "model": "*", "input_mtok": 1, "output_mtok": 1}],
    "users": {
        "alice": {
            "limits": [{"concurrent": 5}, {"tokens": 10**9, "per": "day"}],
            "budgets": [{"spend": 1000, "per": "total"}],
        }
    },
}
SECOND = {"door": {"open": True, "listen": "localhost:0"}}
KINDS = ["Exception", "RecursionError", "MemoryError", "CancelledError", "SystemExit"]

BEFORE = [
    "llamakey_addon.http1:parse_request_head",
    "llamakey_addon.http1:find_head_end",
    "llamakey_addon.route:find",
    "llamakey_addon.authenticate:who",
    "llamakey_addon.store.sqlite:SqliteStore.key",
    "llamakey_addon.again:find",
    "llamakey_addon.course:Courses.of",
    "llamakey_addon.authorize:judge",
    "llamakey_addon.isolation:judge",
    "llamakey_addon.admit:Admission.ask",
    "llamakey_addon.admit:Admission.admit",
    "llamakey_addon.admit:Admission.facts",
    "llamakey_addon.addresses:check_ids",
    "llamakey_addon.addresses:Names.places_in",
    "llamakey_addon.estimate:Estimates.counts",
    "llamakey_addon.prices:Prices.of",
    "llamakey_addon.book:Book.admit",
    "llamakey_addon.store.sqlite_ledger:SqliteLedger.admit_all",
    "llamakey_addon.store.counters:Counters.write",
    "llamakey_addon.http1:upstream_headers",
    "llamakey_addon.gate:Gate.arrive",
    "llamakey_addon.gate:Gate.depart",
    "llamakey_addon.road:Road._depart",
    "llamakey_addon.road:Road._go",
    "llamakey_addon.road:Road._send",
    "llamakey_addon.view.flows:_Watch.__call__",
    "llamakey_addon.upstream:Wish.open",
    "llamakey_addon.upstream:Pool.take",
    "llamakey_addon.http1:write_request_head",
]
"""Stages up to the sending."""

RIMS: list[tuple[Mode, str]] = [
    ("mitmdump", "llamakey_addon.layer:RoadLayer"),
    ("lmk", "llamakey_addon.serve.client:ClientConnection"),
]
"""What is around the road in each launch."""
RIM = ["open_upstream", "now", "watch"]

AT_THE_DOOR = [
    "llamakey_addon.doorway:read",
    "llamakey_addon.doorway:Hosts.find",
    "llamakey_addon.doorway:check",
    "llamakey_addon.authenticate:at_the_door",
    "llamakey_addon.authenticate:_check_same",
    "llamakey_addon.gate:Gate.connect",
    "llamakey_addon.road:Road._connect",
    "llamakey_addon.road:Road.secured",
    "llamakey_addon.serve.client:ClientConnection.secure",
    "llamakey_addon.serve.client:ClientConnection._secured",
    "llamakey_addon.serve.second:SecondDoor.context",
]
"""Stages of a request by the second door alone."""

TICKETS = [
    "llamakey_addon.authenticate:by_ticket",
    "llamakey_addon.authenticate:_check_place",
    "llamakey_addon.tokens:Tokens.read_ticket",
    "llamakey_addon.tokens:Tokens._seal",
]
"""Stages of a request that shows a ticket in place of a key."""

AFTER = [
    "llamakey_addon.admit:Admission.told",
    "llamakey_addon.http1:parse_answer_head",
    "llamakey_addon.http1:_read_answer_head",
    "llamakey_addon.addresses:Addresses.headers",
    "llamakey_addon.mask:PlainMask.feed",
    "llamakey_addon.mask:PlainMask.end",
    "llamakey_addon.http1:write_answer_head",
    "llamakey_addon.road:Road._take_answer",
    "llamakey_addon.road:Road._finish",
]
"""Stages while an answer comes."""

REFUSAL = ["llamakey_addon.endings:Endings.refuse", "llamakey_addon.denial:answer"]

BOOK = [
    "llamakey_addon.gate:Gate.settle",
    "llamakey_addon.book:Book.close",
    "llamakey_addon.account:used",
    "llamakey_addon.account:closing",
    "llamakey_addon.account:served",
    "llamakey_addon.prices:Prices.bill",
    "llamakey_addon.estimate:Estimates.learn",
    "llamakey_addon.store.sqlite_ledger:SqliteLedger.settle",
    "llamakey_addon.journal:Journal.write",
]


@pytest.fixture
def inside(
    request: pytest.FixtureRequest, shared_proxy: Start, world: World
) -> Iterator[tuple[Door, Saboteur]]:
    """A proxy that is broken from inside; afterwards it serves as ever.

    mitmdump, or the launch that the test asks for.
    """
    mode: Mode = getattr(request, "param", "mitmdump")
    config = CONFIG if mode == "mitmdump" else {**CONFIG, **SECOND}
    proxy, saboteur = start_with_saboteur(shared_proxy, mode, config=config)
    door = open_door(proxy, world)
    yield door, saboteur
    door.seen()
    door.assert_still_serves()
    assert proxy.process.poll() is None, proxy.output()
    assert world.key("openai") not in proxy.output()
    assert_nothing_reserved(proxy)


def assert_nothing_reserved(proxy: Proxy) -> None:
    """Every row in the ledger is closed, and nothing is held for any."""
    for _ in _ticks(5):
        with closing(sqlite3.connect(proxy.home / "llamakey.db")) as connection:
            [(rows,)] = connection.execute("SELECT count(*) FROM ledger WHERE open = 1")
            [(reserved,)] = connection.execute("SELECT total(abs(reserved)) FROM counter")
        if not rows and not reserved:
            return
    raise AssertionError(f"{rows} open rows, {reserved} reserved")


TAGS = itertools.count()


def booked_once(door: Door, tag: str) -> None:
    """The request with this tag in its path stands in the log exactly once."""
    last = f"last-{next(TAGS)}"
    door.ask(f"GET /nobody/{last} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    door.proxy.wait_for_log(path=f"/nobody/{last}")  # the log is written in its order
    lines = [line for line in door.proxy.log() if line.get("path", "").endswith(tag)]
    assert len(lines) == 1, lines


def post(door: Door, tag: str = "") -> Answer | None:
    """An honest request; None when the connection was closed without an answer."""
    # a model of its own: a price that is remembered is not asked for
    chat = b'{"model": "claude-%d", "max_tokens": 1, "messages": []}' % next(TAGS)
    head = door.head(f"POST /anthropic/odd/json/{tag}", "Content-Type: application/json",
                     f"Content-Length: {len(chat)}")  # fmt: skip
    try:
        return door.ask(head + chat, method="POST")
    except Closed as closed:
        if closed.partial:
            raise
        return None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("inside", "stage"),
    [("mitmdump", stage) for stage in BEFORE]
    + [(mode, f"{rim}.{name}") for mode, rim in RIMS for name in RIM],
    indirect=["inside"],
)
def test_a_stage_before_sending(inside: tuple[Door, Saboteur], stage: str, kind: str) -> None:
    door, saboteur = inside
    tag = f"tag-{next(TAGS)}"
    with saboteur.broken(stage, kind, times=1):
        answer = post(door, tag)
    if answer is not None:
        refused(answer, 500, 502)
        assert b"sabotage" not in answer.body
        if "http1:parse" not in stage and "http1:find" not in stage:  # then it has no path
            booked_once(door, tag)
    door.assert_untouched()


# ── the second door, and tickets ────────────────────────────────────────────────────────────────


def by_tunnel(door: Door) -> tuple[bytes, bytes]:
    """What CONNECT is answered, and the request in its tunnel."""
    told = re.search(r"takes CONNECT on http://localhost:([0-9]+)", door.proxy.output())
    assert told is not None
    pair = base64.b64encode(f"key:{door.proxy.local_key}".encode()).decode()
    host = "api.openai.com"
    ours = door.proxy.home / "door" / "ours.pem"
    with socket.create_connection(("localhost", int(told[1])), timeout=20) as plain:
        plain.sendall(
            f"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n"
            f"Proxy-Authorization: Basic {pair}\r\n\r\n".encode()
        )
        established = b""
        while b"\r\n\r\n" not in established and (byte := plain.recv(1)):
            established += byte
        if not established.startswith(b"HTTP/1.1 200 "):
            return established, b""
        answer = b""
        with contextlib.suppress(OSError):  # ssl.SSLError is one
            context = ssl.create_default_context(cafile=str(ours))
            with context.wrap_socket(plain, server_hostname=host) as tunnel:
                tunnel.sendall(
                    f"GET /v1/models HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
                )
                while piece := tunnel.recv(65536):
                    answer += piece
        return established, answer


@pytest.mark.parametrize("kind", ["Exception", "SystemExit"])
@pytest.mark.parametrize(
    ("inside", "stage"), [("lmk", stage) for stage in AT_THE_DOOR], indirect=["inside"]
)
def test_the_second_door(inside: tuple[Door, Saboteur], stage: str, kind: str) -> None:
    door, saboteur = inside
    with saboteur.broken(stage, kind, times=1):
        established, answer = by_tunnel(door)
    assert not answer or answer.startswith(b"HTTP/1.1 500 "), answer
    assert established or not answer
    assert b"sabotage" not in established + answer
    door.assert_untouched()
    established, answer = by_tunnel(door)
    assert answer.startswith(b"HTTP/1.1 200 OK"), (established, answer)
    assert [request.credential for request in door.seen()] == ["real"]


@pytest.mark.parametrize("kind", ["Exception", "SystemExit"])
@pytest.mark.parametrize("stage", TICKETS)
def test_a_ticket(inside: tuple[Door, Saboteur], stage: str, kind: str) -> None:
    door, saboteur = inside
    answer = door.ask(
        door.head(
            "POST /gemini/upload/v1beta/files", "X-Goog-Upload-Protocol: resumable",
            "X-Goog-Upload-Command: start", "Content-Length: 0",
        ),
        method="POST",
    )  # fmt: skip
    url = urlsplit(answer.header("x-goog-upload-url"))
    assert "llamakey=" in url.query
    door.seen()
    call = f"POST {url.path}?{url.query} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".encode()
    with saboteur.broken(stage, kind, times=1):
        refused(door.ask(call, method="POST"), 500)
    door.assert_untouched()


@pytest.mark.parametrize("kind", KINDS)
def test_no_connection_can_be_opened(inside: tuple[Door, Saboteur], kind: str) -> None:
    door, saboteur = inside
    tag = f"tag-{next(TAGS)}"
    with saboteur.broken("llamakey_addon.upstream:Pool.take", kind, times=1):
        assert post(door) is not None
    tag = f"tag-{next(TAGS)}"
    # no idle connection is left to take: ours are closed by answers that end with `close`
    door.seen()
    script = door.world.script("bye", b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nbye", "close")
    for _ in range(2):
        door.ask(door.head(f"GET /anthropic{script}"))
    door.seen()
    tag = f"tag-{next(TAGS)}"
    with saboteur.broken("llamakey_addon.upstream:Pool._connect", kind, times=9):
        answer = post(door, tag)
    assert answer is not None
    refused(answer, 500, 502)
    booked_once(door, tag)
    door.assert_untouched()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stage", AFTER)
def test_a_stage_while_the_answer_comes(
    inside: tuple[Door, Saboteur], stage: str, kind: str
) -> None:
    door, saboteur = inside
    tag = f"tag-{next(TAGS)}"
    with saboteur.broken(stage, kind, times=1):
        answer = post(door, tag)
    if answer is not None and answer.denial:
        refused(answer, 500, 502)
    elif answer is not None:
        assert answer.status == 200
        assert not answer.whole or b"sha256" in answer.body
    assert len(door.seen()) == 1
    booked_once(door, tag)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stage", BOOK)
def test_the_book(inside: tuple[Door, Saboteur], stage: str, kind: str) -> None:
    door, saboteur = inside
    tag = f"tag-{next(TAGS)}"
    with saboteur.broken(stage, kind, times=1):
        answer = post(door, tag)
    assert answer is not None
    assert (answer.status, answer.whole) == (200, True)
    assert len(door.seen()) == 1
    if "Journal" not in stage:
        booked_once(door, tag)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "stage", ["llamakey_addon.endings:Endings.refuse", "llamakey_addon.denial:answer"]
)
def test_a_refusal(inside: tuple[Door, Saboteur], stage: str, kind: str) -> None:
    door, saboteur = inside
    tag = f"tag-{next(TAGS)}"
    with saboteur.broken(stage, kind, times=9):
        try:
            answer: Answer | None = door.ask(
                f"GET /openai/v1/{tag} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
            )
        except Closed:
            answer = None
    assert answer is None
    booked_once(door, tag)
    door.assert_untouched()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("inside", "hook"),
    [
        ("mitmdump", "llamakey_addon.addon:LlamaKey._choose"),
        ("mitmdump", "llamakey_addon.house:House.heard"),
        ("lmk", "llamakey_addon.serve.door:Door.enter"),
        ("lmk", "llamakey_addon.serve.door:Door.greet"),
        ("lmk", "llamakey_addon.house:House.admit_connection"),
        *((mode, "llamakey_addon.road:Road.__init__") for mode, _ in RIMS),
        *((mode, f"{rim}.{n}") for mode, rim in RIMS for n in ("__init__", "to_client", "flush")),
    ],
    indirect=["inside"],
)
def test_hooks_of_connections(inside: tuple[Door, Saboteur], hook: str, kind: str) -> None:
    """No road behind a connection: then there is nothing behind it, and the process goes on."""
    door, saboteur = inside
    with saboteur.broken(hook, kind, times=1, secret=False):
        answer = post(door)
    seen = door.seen()
    assert answer is None or answer.status in (500, 502)
    if "to_client" not in hook and "flush" not in hook:  # first called with the answer
        assert seen == []
        door.assert_untouched()


@pytest.mark.parametrize("kind", ["Exception", "SystemExit"])
def test_an_upload_that_breaks_midway_is_cut(inside: tuple[Door, Saboteur], kind: str) -> None:
    door, saboteur = inside
    with door.wire() as wire:
        wire.send(door.head("POST /anthropic/odd/upload", "Content-Length: 2000"), b"x" * 100)
        [request] = wait_for_head(door)
        with saboteur.broken("llamakey_addon.road:Road._upload", kind, times=1):
            wire.send(b"x" * 100)
            answer = wire.answer("POST")
    refused(answer, 500)
    door.world.wait_for(1, "anthropic", since=door.world.mark() - 1)
    assert not request.complete


def wait_for_head(door: Door) -> list[Request]:
    for _ in _ticks(20):
        if found := door.seen():
            return found
    raise TimeoutError


@pytest.mark.parametrize("kind", ["Exception", "RecursionError", "MemoryError"])
def test_the_key_cannot_be_had(inside: tuple[Door, Saboteur], kind: str) -> None:
    """Nor can the log be scrubbed then: so nothing is told."""
    door, saboteur = inside
    with saboteur.broken("llamakey_addon.keys:Secret.reveal", kind, times=999, secret=False):
        answer = post(door)
    assert answer is None or answer.status in (500, 502)
    door.assert_untouched()


# ── configuration ───────────────────────────────────────────────────────────────────────────────


def test_an_unknown_prefix_and_a_missing_real_key(proxy: Start, world: World) -> None:
    running = proxy("lmk", env={"ANTHROPIC_API_KEY": ""})
    door = open_door(running, world)
    refused(door.ask(door.head("GET /nobody/v1/models")), 404)
    answer = door.ask(door.head("GET /anthropic/v1/models"))
    refused(answer, 503)
    message = json.loads(answer.body)["error"]["message"]
    assert "Anthropic" in message
    door.assert_untouched()
    assert door.ask(door.head("GET /openai/v1/models")).status == 200


def test_a_real_key_that_is_a_local_one(proxy: Start, world: World) -> None:
    """Somebody sourced the client's file in the server's shell."""
    fake = "sk-lmk-aaaaaaaaaa-" + "a" * 49
    running = proxy("lmk", env={"OPENAI_API_KEY": fake, "OPENAI_BASE_URL": "http://evil.example"})
    door = open_door(running, world)
    refused(door.ask(door.head("GET /openai/v1/models")), 503)
    door.assert_untouched()


BROKEN_CONFIGS = {
    "not yaml": "providers: [",
    "an unknown setting": "provders: {}",
    "no upstream": "providers: {openai: {upstream: 'nowhere'}}",
    "binary": "\x00\x01",
    "an unknown user rule": "users: {alice: {allow: [{path: /x}]}}",
}


@pytest.mark.parametrize("kind", BROKEN_CONFIGS)
def test_a_reload_that_breaks_changes_nothing(lmk_door: Door, kind: str) -> None:
    door = lmk_door
    path = Path(door.proxy.folder / "config.yaml")
    good = path.read_text()
    shown = door.proxy.output().count("not taken")
    replace(path, BROKEN_CONFIGS[kind])
    try:
        for _ in _ticks(20):
            if door.proxy.output().count("not taken") > shown:
                break
        else:
            raise TimeoutError(door.proxy.output())
        door.assert_still_serves()
        refused(door.ask(b"GET /openai/v1/models HTTP/1.1\r\nHost: a\r\n\r\n"), 401)
        door.assert_untouched()
    finally:
        replace(path, good)


def replace(path: Path, text: str) -> None:
    beside = path.with_suffix(".new")
    beside.write_text(text)
    beside.replace(path)


def test_a_config_that_is_gone_changes_nothing(lmk_door: Door) -> None:
    path = Path(lmk_door.proxy.folder / "config.yaml")
    good = path.read_text()
    path.unlink()
    try:
        lmk_door.assert_still_serves()
    finally:
        replace(path, good)
    lmk_door.assert_still_serves()
