from __future__ import annotations

import socket

import pytest

from llamakey_addon.config.addresses import (
    AddressError,
    Ourselves,
    is_loopback,
    is_wildcard,
    parse_listen,
    parse_origin,
    parse_public_url,
)
from llamakey_addon.config.settings import Listen
from llamakey_addon.journey import Upstream


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("localhost:8000", "localhost", 8000),
        ("8080", "localhost", 8080),
        (8080, "localhost", 8080),
        (":80", "0.0.0.0", 80),
        ("*:80", "0.0.0.0", 80),
        ("10.0.0.5", "10.0.0.5", 8000),
        ("[::1]:81", "::1", 81),
        ("[::]", "::", 8000),
        ("Proxy.Corp:0", "proxy.corp", 0),
    ],
)
def test_listen(text, host, port):
    listen = parse_listen(text)
    assert listen == Listen(host, port)
    assert parse_listen(str(listen)) == listen


@pytest.mark.parametrize(
    "text",
    ["", "a:b", "localhost:65536", "localhost:-1", "::1", "[::1", "[x]:1", "a b:1", "h:", "٣"],
)
def test_listen_refuses(text):
    with pytest.raises(AddressError, match="write HOST:PORT"):
        parse_listen(text)


@pytest.mark.parametrize(
    ("text", "upstream"),
    [
        ("https://api.openai.com", Upstream("https", "api.openai.com", 443)),
        ("https://API.openai.com./", Upstream("https", "api.openai.com", 443)),
        ("http://127.0.0.1:11434", Upstream("http", "127.0.0.1", 11434)),
        ("http://[::1]:8080", Upstream("http", "::1", 8080)),
        ("https://vllm_1.internal:8443", Upstream("https", "vllm_1.internal", 8443)),
    ],
)
def test_origin(text, upstream):
    assert parse_origin(text) == upstream
    assert parse_origin(upstream.origin) == upstream


@pytest.mark.parametrize(
    "text",
    [
        "",
        "api.openai.com",
        "ftp://a",
        "https://",
        "https://a/v1",
        "https://a?x=1",
        "https://a#b",
        "https://a:0",
        "https://a:99999",
        "https://a:",
        "https://a:b",
        "https://[::1",
        "https://[fe80::1%25eth0]",
        "https://a b",
        "https://a\tb",
        "https://a\n",
        "https://a\\b",
        "https://ä.example",
        "https://a..b",
        "https://-a",
        "https://a@b",
    ],
)
def test_origin_refuses(text):
    with pytest.raises(AddressError):
        parse_origin(text)


def test_a_password_in_an_address_is_not_echoed():
    with pytest.raises(AddressError) as caught:
        parse_origin("https://user:hunter2hunter2@api.example.com")
    assert "hunter2" not in str(caught.value)
    assert "by reference" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://llm.example.com/", "https://llm.example.com"),
        ("https://LLM.example.com:443", "https://llm.example.com"),
        ("http://host:8000/llm/", "http://host:8000/llm"),
    ],
)
def test_public_url(text, url):
    assert parse_public_url(text) == url


@pytest.mark.parametrize(
    "text", ["x", "https://a?b", "https://u:p@a", "https://a/%2f", "https://a/'"]
)
def test_public_url_refuses(text):
    with pytest.raises(AddressError):
        parse_public_url(text)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("LOCALHOST.", True),
        ("a.localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("127.1", True),
        ("2130706433", True),
        ("0x7f.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("localhost.example.com", False),
        ("example.com", False),
    ],
)
def test_loopback(host, loopback):
    assert is_loopback(host) is loopback


def test_wildcard():
    assert is_wildcard("0.0.0.0") and is_wildcard("::") and is_wildcard("0")
    assert not is_wildcard("127.0.0.1") and not is_wildcard("a.b")


@pytest.mark.parametrize(
    ("listen", "public_url", "upstream", "ours"),
    [
        ("localhost:8000", "http://localhost:8000", "http://localhost:8000", True),
        ("localhost:8000", "http://localhost:8000", "http://127.0.0.1:8000", True),
        ("localhost:8000", "http://localhost:8000", "http://[::1]:8000", True),
        ("localhost:8000", "http://localhost:8000", "http://127.1:8000", True),
        ("localhost:8000", "http://localhost:8000", "http://0.0.0.0:8000", True),
        ("localhost:8000", "http://localhost:8000", "http://localhost:11434", False),
        ("localhost:8000", "http://localhost:8000", "http://10.0.0.5:8000", False),
        ("10.0.0.5:8000", "http://10.0.0.5:8000", "http://10.0.0.5:8000", True),
        ("10.0.0.5:8000", "http://10.0.0.5:8000", "http://127.0.0.1:8000", False),
        ("0.0.0.0:8000", "http://localhost:8000", "http://127.0.0.1:8000", True),
        ("0.0.0.0:8000", "http://x:8000", f"http://{socket.gethostname()}:8000", True),
        ("localhost:8000", "https://llm.corp", "https://llm.corp", True),
        ("localhost:8000", "https://llm.corp", "https://llm.corp:8443", False),
        ("localhost:8000", "https://llm.corp/sub", "http://llm.corp", False),
    ],
)
def test_ourselves(listen, public_url, upstream, ours):
    assert Ourselves(parse_listen(listen), public_url).has(parse_origin(upstream)) is ours
