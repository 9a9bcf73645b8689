"""TLS towards clients, on a live proxy: the owner's certificate and HTTP/1.1 alone."""

from __future__ import annotations

import http.client
import json
import socket
import ssl

import pytest
import trustme

from tests.conftest import Start
from tests.harness import Proxy

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


@pytest.fixture
def tls_proxy(files: dict[str, str], shared_proxy: Start) -> Proxy:
    return shared_proxy(config={"tls": files})


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


def test_plain_http_on_the_tls_port_is_told_so(tls_proxy: Proxy) -> None:
    with socket.create_connection(("localhost", tls_proxy.port), 10) as connection:
        connection.sendall(b"GET /_llamakey/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while piece := connection.recv(4096):
            answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert body == b"This port speaks TLS: use an https:// URL.\r\n"
    assert f"Content-Length: {len(body)}".encode() in head
