"""Targets: refused, or sent exactly as judged, to the one provider that was judged."""

from __future__ import annotations

import pytest

from tests.attacks.conftest import Door, refused

REFUSED = [
    # dot segments, plain and encoded, however often
    "/openai/../anthropic/v1/models",
    "/openai/..",
    "/openai/../",
    "/openai/v1/../../anthropic/v1/models",
    "/openai/./v1/models",
    "/openai/v1/models/.",
    "/openai/v1/models/..",
    "/../openai/v1/models",
    "/./openai/v1/models",
    "/openai/%2e%2e/anthropic/v1/models",
    "/openai/%2E%2E/anthropic/v1/models",
    "/openai/.%2e/anthropic/v1/models",
    "/openai/%2e./anthropic/v1/models",
    "/openai/%2e/v1/models",
    "/openai/v1/%2e%2e%2f%2e%2e%2fanthropic",
    "/openai/%252e%252e/anthropic/v1/models",
    "/openai/%25252e%25252e/anthropic/v1/models",
    "/openai/..;/anthropic/v1/models",
    "/openai/..;a=b/anthropic/v1/models",
    "/openai/v1/..%3bx/models",
    # slashes
    "/openai%2f../anthropic/v1/models",
    "/openai%2fv1/models",
    "/openai%2Fv1%2Fmodels",
    "/openai/v1%2fmodels",
    "/openai/v1%252fmodels",
    "/openai/..%2fanthropic/v1/models",
    "//openai/v1/models",
    "///openai/v1/models",
    "/openai//v1/models",
    "/openai/v1//models",
    "//anthropic.example/v1/models",
    "/openai//anthropic.example/v1/models",
    "/openai\\v1\\models",
    "/openai/v1\\..\\models",
    "\\openai\\v1\\models",
    "/openai/v1%5cmodels",
    "/openai/v1%5C..%5Cmodels",
    "/openai/v1%255cmodels",
    # prefixes that are none
    "/openaix/v1/models",
    "/openai.example/v1/models",
    "/openai@evil.example/v1/models",
    "/openai:443/v1/models",
    "/openai;a=b/v1/models",
    "/OpenAI/v1/models",
    "/OPENAI/v1/models",
    "/%6fpenai/v1/models",
    "/open%61i/v1/models",
    "/openai%00/v1/models",
    "/openai%20/v1/models",
    "/ openai/v1/models",
    "/v1/models",
    "/",
    "*",
    "/?openai",
    "/.openai/v1/models",
    # parameters, fragments, control characters, bad escapes
    "/openai/v1/models;a=b",
    "/openai/v1;x/models",
    "/openai/v1/models#fragment",
    "#",
    "/openai/v1/models%00",
    "/openai/v1/models%0d%0aX-A:%20b",
    "/openai/v1/models%0a",
    "/openai/v1/models%7f",
    "/openai/v1/models%",
    "/openai/v1/models%2",
    "/openai/v1/models%zz",
    "/openai/v1/models%2500",
    "/openai/v1/%6dodels",
    # other forms of a target
    "openai/v1/models",
    "localhost:8000",
    "http:/openai/v1/models",
    "http:///openai/v1/models",
    "http://user:secret@localhost/openai/v1/models",
    "http://user@localhost/openai/v1/models",
    "ftp://localhost/openai/v1/models",
    "file:///openai/v1/models",
    "gopher://localhost/openai/v1/models",
    "http://api.openai.com/v1/models",
    "http://localhost/../openai/v1/models",
    "http://localhost",
    "?/openai/v1/models",
]

SENT = {
    # as sent → what the provider must have got, to the byte
    "/openai/v1/models": "/v1/models",
    "/openai/models": "/v1/models",
    "/openai/v1/models/": "/v1/models/",
    "/openai/v1/models/ft:gpt-4o:me::1": "/v1/models/ft:gpt-4o:me::1",
    "/openai/v1/files/a.b..c/content": "/v1/files/a.b..c/content",
    "/openai/v1/files/...": "/v1/files/...",
    "/openai/v1/files/a%20b": "/v1/files/a%20b",
    "/openai/v1/files/a%c3%a9": "/v1/files/a%c3%a9",
    "/openai/v1/files/a%C3%A9": "/v1/files/a%C3%A9",
    "/openai/v1/files/a%25b": "/v1/files/a%25b",
    "/openai/v1/files/a@b:c,d!e$f&g'h(i)*+=~": "/v1/files/a@b:c,d!e$f&g'h(i)*+=~",
    "/openai/v1/models?": "/v1/models",
    "/openai/v1/models?a=%2e%2e%2f&a=b&c": "/v1/models?a=%2e%2e%2f&a=b&c",
    '/openai/v1/models?x=//..;/"<>^`{|}': '/v1/models?x=//..;/"<>^`{|}',
    "/openai/v1/models?a?b": "/v1/models?a?b",
    "http://localhost/openai/v1/models?a=b": "/v1/models?a=b",
    "HTTPS://LOCALHOST:1/openai/v1/models": "/v1/models",
    "http://evil.example/openai/v1/models": "/v1/models",
}


@pytest.mark.parametrize("target", REFUSED)
def test_hostile_targets(door: Door, target: str) -> None:
    refused(door.ask(door.head(f"GET {target}")))
    door.assert_untouched()


@pytest.mark.parametrize("target", SENT)
def test_targets_that_are_sent_as_judged(door: Door, target: str) -> None:
    door.ask(door.head(f"GET {target}"))
    [request] = door.seen()
    assert request.family == "openai"
    assert request.target == SENT[target]
    assert request.credential == "real"
    door.proxy.wait_for_log(method="GET", path=SENT[target].partition("?")[0])


@pytest.mark.parametrize(
    "line",
    [
        b"GET /openai/v1/mod\x00els HTTP/1.1",
        b"GET /openai/v1/mod\xc3\xa9ls HTTP/1.1",
        b"GET /openai/v1/mod\xffels HTTP/1.1",
        b"GET /openai/v1/mod\x7fels HTTP/1.1",
        b"GET /openai/v1/mod els HTTP/1.1",
        b"GET /openai/v1/mod\tels HTTP/1.1",
        b"GET /openai/v1/mod\rels HTTP/1.1",
    ],
)
def test_raw_bytes_in_a_target(door: Door, line: bytes) -> None:
    refused(door.ask(line + door.head("GET /")[14:]), 400)
    door.assert_untouched()


METHODS = ["TRACE", "TRACK", "CONNECT", "GE%54", "get", "FOO", "G" * 100, "PRI", "", "GET\t"]


@pytest.mark.parametrize("method", METHODS)
def test_methods_that_no_api_uses(door: Door, method: str) -> None:
    refused(door.ask(door.head(f"{method} /openai/v1/models")), 400, 405, 501)
    door.assert_untouched()


def test_connect(door: Door) -> None:
    for target in ("api.openai.com:443", "localhost:443", "/openai/v1/models"):
        answers = door.all_answers(
            f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{door.bearer()}\r\n"
            "Proxy-Connection: keep-alive\r\nConnection: close\r\n\r\n".encode()
        )
        [answer] = answers
        refused(answer, 400, 405)
    door.assert_untouched()


@pytest.mark.parametrize(
    "version", ["", "HTTP/0.9", "HTTP/1.2", "HTTP/2.0", "HTTP/9.9", "RTSP/1.0"]
)
def test_versions_that_are_not_spoken(door: Door, version: str) -> None:
    head = door.head("GET /openai/v1/models").decode().replace("HTTP/1.1", version, 1)
    refused(door.ask(head.replace("models \r\n", "models\r\n").encode()), 400, 501, 505)
    door.assert_untouched()


@pytest.mark.parametrize(
    "host", ["mitm.it", "api.anthropic.com", "evil.example:1", "127.0.0.1", "[::1]", ""]
)
def test_a_host_of_another_name_changes_nothing(door: Door, host: str) -> None:
    answer = door.ask(door.head("GET /openai/v1/models", host=host))
    assert answer.status == 200
    [request] = door.seen()
    assert (request.family, request.target, request.credential) == ("openai", "/v1/models", "real")
    assert request.values("host") == [f"localhost:{door.world.port('openai')}"]


def test_mitm_it_serves_no_certificate(door: Door) -> None:
    for target in ("/", "/cert/pem", "http://mitm.it/cert/pem"):
        answer = door.ask(f"GET {target} HTTP/1.1\r\nHost: mitm.it\r\n\r\n".encode())
        refused(answer, 404)
        assert b"CERTIFICATE" not in answer.body
    door.assert_untouched()


def test_a_keyless_look_at_a_bare_prefix_is_answered_here(door: Door) -> None:
    for method, prefix in (("GET", "/anthropic"), ("HEAD", "/anthropic"), ("HEAD", "/openai/")):
        answer = door.ask(f"{method} {prefix} HTTP/1.1\r\nHost: a\r\n\r\n".encode(), method=method)
        assert (answer.status, answer.body) == (200, b"")
    door.assert_untouched()
