"""TLS towards clients, on a live proxy: the owner's certificate and HTTP/1.1 alone."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from pathlib import Path

import pytest
import trustme
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as websocket

from llamakey_addon.house import House
from tests import harness
from tests.conftest import Start
from tests.harness import Mode, Proxy
from tests.roadside import make_bench

CHAT = json.dumps({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]})


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def files(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("tls")
    leaf = authority.issue_cert("localhost")
    cert, key = folder / "cert.pem", folder / "key.pem"
    cert.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    key.touch(0o600)
    key.write_bytes(leaf.private_key_pem.bytes())
    return {"cert": str(cert), "key": str(key)}


@pytest.fixture(params=["lmk", "mitmdump"])
def tls_proxy(request: pytest.FixtureRequest, files: dict[str, str], shared_proxy: Start) -> Proxy:
    mode: Mode = request.param
    return shared_proxy(mode, config={"tls": files})


def trusting(authority: trustme.CA, *protocols: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def test_a_call_over_tls(tls_proxy: Proxy, authority: trustme.CA) -> None:
    connection = http.client.HTTPSConnection(
        "localhost", tls_proxy.port, timeout=10, context=trusting(authority)
    )
    headers = {"Authorization": f"Bearer {tls_proxy.local_key}", "Content-Type": "application/json"}
    for _ in range(3):
        connection.request("POST", "/openai/v1/chat/completions", CHAT, headers)
        answer = connection.getresponse()
        assert answer.status == 200
        assert json.loads(answer.read())["object"] == "chat.completion"
    streamed = CHAT[:-1] + ', "stream": true}'
    connection.request("POST", "/openai/v1/chat/completions", streamed, headers)
    answer = connection.getresponse()
    assert answer.status == 200
    assert answer.read().endswith(b"data: [DONE]\n\n")
    connection.close()


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [(("h2", "http/1.1"), "http/1.1"), (("h2",), None), ((), None)],
)
def test_http_1_alone_is_offered(
    tls_proxy: Proxy, authority: trustme.CA, offered: tuple[str, ...], chosen: str | None
) -> None:
    context = trusting(authority, *offered)
    with (
        socket.create_connection(("localhost", tls_proxy.port), 10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        assert connection.selected_alpn_protocol() == chosen
        assert connection.version() in ("TLSv1.2", "TLSv1.3")
        connection.sendall(b"GET /_llamakey/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 OK\r\n")


def test_the_same_port_serves_plain_http_to_this_machine(tls_proxy: Proxy) -> None:
    connection = http.client.HTTPConnection("localhost", tls_proxy.port, timeout=45)
    headers = {"Authorization": f"Bearer {tls_proxy.local_key}", "Content-Type": "application/json"}
    for _ in range(2):
        connection.request("POST", "/openai/v1/chat/completions", CHAT, headers)
        answer = connection.getresponse()
        assert answer.status == 200
        assert json.loads(answer.read())["object"] == "chat.completion"
    connection.close()


@pytest.mark.parametrize(
    ("address", "allow_plain", "served"),
    [
        ("127.0.0.1", False, True),
        ("::1", False, True),
        ("::ffff:127.0.0.1", False, True),
        ("192.0.2.7", False, False),
        ("2001:db8::7", False, False),
        ("192.0.2.7", True, True),
    ],
)
def test_plain_http_from_elsewhere_is_not_served_beside_tls(
    files: dict[str, str], tmp_path: Path, address: str, allow_plain: bool, served: bool
) -> None:
    """By the address of ours that it came to: to a loopback one it came from this machine."""
    with make_bench(tmp_path, tls=files, listen="0.0.0.0:8000", allow_plain=allow_plain) as bench:
        house = House(bench.gate.settings, bench.store, bench.log)
        assert house.may_be_plain(address) is served


def test_a_websocket_over_tls_is_told_why_it_ends(tls_proxy: Proxy, authority: trustme.CA) -> None:
    key = tls_proxy.mint("alice")
    with websocket(
        f"wss://localhost:{tls_proxy.port}/openai/v1/realtime?model=m",
        additional_headers={"Authorization": f"Bearer {key}"},
        ssl=trusting(authority),
        proxy=None,
        max_size=None,
    ) as client:
        client.send(json.dumps({"type": "response.create"}))
        while json.loads(client.recv(timeout=45))["type"] != "response.done":
            pass
        client.send(b"\0" * 2**20)
        harness.revoke(tls_proxy.home, key)
        with pytest.raises(ConnectionClosed) as caught:
            client.recv(timeout=45)
    assert caught.value.rcvd is not None
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (
        1008,
        "LlamaKey: the key is no longer valid",
    )
