"""Smuggling: what is odd about lengths, chunks, lines and order is refused or passes cleanly."""

from __future__ import annotations

import itertools

import h11
import pytest

from tests.attacks.conftest import LATE, Door, refused

HIDDEN = b"GET /anthropic/odd/json?smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
"""A request that hides in another's body. Without a key it must be 401 where it is taken as one."""

TAGS = itertools.count()
CUT = "peer closed connection without sending complete message body (incomplete chunked read)"
"""What h11 holds against an upload that was cut off."""

CODINGS = [
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding:chunked",
    b"Transfer-Encoding: Chunked",
    b"transfer-encoding: CHUNKED",
    b"Transfer-Encoding: \tchunked",
    b"Transfer-Encoding: chunked \t",
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding\t: chunked",
    b" Transfer-Encoding: chunked",
    b"\tTransfer-Encoding: chunked",
    b"X: a\r\n Transfer-Encoding: chunked",
    b"Transfer-Encoding:\r\n chunked",
    b"Transfer-Encoding: \x0bchunked",
    b"Transfer-Encoding: \x0cchunked",
    b"Transfer-Encoding: chunked\x00",
    b"\x00Transfer-Encoding: chunked",
    b"Transfer-Encoding\x00: chunked",
    b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding: chunkedx",
    b"Transfer-Encoding: chunk",
    b"Transfer-Encoding: cow",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: identity, chunked",
    b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: cow",
    b"Transfer-Encoding: cow\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    b'Transfer-Encoding: "chunked"',
    b"Transfer-Encoding: 'chunked'",
    b"Transfer-Encoding: chunked;q=0.5",
    b"Transfer-Encoding: ,chunked",
    b"Transfer-Encoding: chunked,",
    b"Transfer-Encoding:",
    b"Transfer_Encoding: chunked",
    b"Transfer-Encoding: chunked\n",
    b"X: a\nTransfer-Encoding: chunked",
    b"X: a\rTransfer-Encoding: chunked",
    b"Transfer-Encoding: ch\xc3\xbcnked",
]
LENGTHS = [
    b"Content-Length: %d",
    b"Content-Length:%d",
    b"content-length: %d",
    b"Content-Length: +%d",
    b"Content-Length: -%d",
    b"Content-Length: 0%d",
    b"Content-Length: 0x%d",
    b"Content-Length: %d, %d",
    b"Content-Length: %d;",
    b"Content-Length: %d 0",
    b"Content-Length: %d.0",
    b"Content-Length: %d\x00",
    b"Content-Length : %d",
    b" Content-Length: %d",
    b"Content-Length: \x0b%d",
    b"Content-Length:\r\n %d",
    b"Content-Length: %d\r\nContent-Length: %d",
    b"Content-Length: %d\r\nContent-Length: 0",
    b"Content-Length: 0\r\nContent-Length: %d",
    b"Content_Length: %d",
    b"Content-Length: 9999999999999999999999",
    b"Content-Length:",
]


def fill(line: bytes, length: int) -> bytes:
    return line.replace(b"%d", b"%d" % length)


def attack(door: Door, path: str, *headers: bytes, body: bytes) -> None:
    """Sends one request with an honest one behind it, on one connection, and judges the outcome.

    Whatever the provider got is read again by h11: it must be whole requests that were judged, in
    their order, with the real key and nothing between them; the hidden one is never among them.
    """
    tag = f"{LATE}={next(TAGS)}."
    head = door.head(f"POST {path}?{tag}")[:-2] + b"".join(line + b"\r\n" for line in headers)
    behind = door.head(f"GET /anthropic/odd/json?behind&{tag}", "Connection: close")
    answers = door.all_answers(head + b"\r\n" + body + behind)
    assert answers
    assert all(answer.whole for answer in answers)
    served = [answer for answer in answers if not answer.denial]
    for answer in answers:
        assert answer in served or answer.status in (400, 401, 404, 501), answer
    # of an upload that was cut off the beginning may come late; it has another tag then
    seen = [request for request in door.seen() if tag in request.target]
    for request in seen:
        assert request.credential == "real"
    assert not any("smuggled" in request.target for request in door.world.requests("anthropic"))
    assert len([request for request in seen if request.complete]) == len(served)
    if answers[0].header("connection") == "close":
        assert len(answers) == 1
    if answers[0] not in served:
        assert len(seen) <= 1, "what was refused, and the honest one behind it"
    assert set(door.malformed()) <= {CUT}


@pytest.mark.parametrize("path", ["/anthropic/odd/json", "/anthropic/v1/messages"])
@pytest.mark.parametrize("coding", CODINGS)
def test_length_and_coding_together(lmk_door: Door, coding: bytes, path: str) -> None:
    chunked = b"0\r\n\r\n" + HIDDEN
    for order in (0, 1):
        pair = [coding, b"Content-Length: %d" % len(chunked)]
        attack(lmk_door, path, *(pair[::-1] if order else pair), body=chunked)
        pair = [coding, b"Content-Length: 5"]
        attack(lmk_door, path, *(pair[::-1] if order else pair), body=chunked)


@pytest.mark.parametrize("coding", CODINGS)
def test_codings_alone(lmk_door: Door, coding: bytes) -> None:
    attack(lmk_door, "/anthropic/odd/json", coding, body=b"2\r\n{}\r\n0\r\n\r\n")
    attack(lmk_door, "/anthropic/odd/json", coding, body=b"0\r\n\r\n" + HIDDEN)


@pytest.mark.parametrize("length", LENGTHS)
def test_odd_lengths(lmk_door: Door, length: bytes) -> None:
    attack(lmk_door, "/anthropic/odd/json", fill(length, 2), body=b"{}")
    attack(lmk_door, "/anthropic/odd/json", fill(length, len(HIDDEN)), body=HIDDEN)


def test_every_coding_with_every_length(lmk_door: Door) -> None:
    """Some hundred pairs; `lmk serve` alone, since the road is the same."""
    body = b"0\r\n\r\n" + HIDDEN
    for coding, length in itertools.product(CODINGS, LENGTHS):
        attack(lmk_door, "/anthropic/odd/json", coding, fill(length, len(body)), body=body)


SIZES = [
    b"2",
    b"02",
    b"000000000002",
    b"0000000000002",
    b"2;a=b",
    b"2 ;a=b",
    b"2 ",
    b"2\t",
    b" 2",
    b"+2",
    b"-2",
    b"0x2",
    b"2x",
    b"g",
    b"",
    b"2,",
    b"2\x00",
    b"\xb2",
    b"2;" + b"a" * 300,
    b"2;\x00",
    b"2;a\rb",
    b"2\n",
    b"FFFFFFFFFFFFFFFF2",
    b"1 0",
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("end", [b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\r\n"])
def test_chunk_sizes_and_line_ends(lmk_door: Door, size: bytes, end: bytes) -> None:
    coding = b"Transfer-Encoding: chunked"
    attack(lmk_door, "/anthropic/odd/json", coding, body=size + end + b"{}\r\n0\r\n\r\n")
    attack(lmk_door, "/anthropic/odd/json", coding, body=b"2\r\n{}" + end + b"0\r\n\r\n" + HIDDEN)


@pytest.mark.parametrize(
    "tail",
    [
        b"0\r\nX-Trailer: a\r\n\r\n",
        b"0\r\nContent-Length: 99\r\nAuthorization: Bearer x\r\n\r\n",
        b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"0\r\nX: a\r\n folded\r\n\r\n",
        b"0\r\nno colon\r\n\r\n",
        b"0\r\nX\x00: a\r\n\r\n",
        b"0\r\nX: a\x00\r\n\r\n",
        b"0;ext\r\n\r\n",
        b"00000\r\n\r\n",
        b"0\r\n\r\r\n",
    ],
)
def test_trailers_of_a_request(door: Door, tail: bytes) -> None:
    for path in ("/anthropic/odd/json", "/anthropic/v1/messages"):
        attack(door, path, b"Transfer-Encoding: chunked", body=b"2\r\n{}\r\n" + tail)
    for line in door.world.lines("anthropic"):
        assert b"X-Trailer" not in line.first_bytes


def test_trailers_of_an_answer_arrive(door: Door) -> None:
    answer = door.ask(door.head("GET /anthropic/odd/trailers"))
    assert answer.body == b"with trailers"
    assert [(n.lower(), v) for n, v in answer.trailers] == [(b"x-sum", b"42")]


HEADERS = [
    b"X: a\r\n b",
    b"X: a\r\n\tb",
    b"X:\r\n b",
    b"X: a\rb",
    b"X: a\nb",
    b"X: a\x00b",
    b"X: \x00",
    b"X\x00: a",
    b"X: a\x01b",
    b"X: a\x7f",
    b"X: caf\xc3\xa9",
    b"X: \xff",
    b"X : a",
    b"X\t: a",
    b" X: a",
    b": a",
    b"X",
    b"X: a\n",
    b"(X): a",
    b"X Y: a",
    b"Host: b",
    b"host:localhost",
]


@pytest.mark.parametrize("header", HEADERS)
def test_headers_that_two_readers_would_read_differently(lmk_door: Door, header: bytes) -> None:
    head = lmk_door.head("GET /anthropic/odd/json")[:-2] + header + b"\r\n\r\n"
    refused(lmk_door.ask(head), 400)
    first = head.split(b"\r\n", 1)
    refused(lmk_door.ask(first[0] + b"\r\n" + header + b"\r\n" + first[1]), 400)
    lmk_door.assert_untouched()


def test_an_obs_fold_before_the_first_header(door: Door) -> None:
    refused(door.ask(door.head("GET /anthropic/odd/json").replace(b"\r\n", b"\r\n ", 1)), 400)
    door.assert_untouched()


def test_no_host_and_bare_line_feeds(door: Door) -> None:
    head = door.head("GET /anthropic/odd/json")
    refused(door.ask(head.replace(b"Host: localhost\r\n", b"")), 400)
    refused(door.ask(head.replace(b"\r\n", b"\n")), 400)
    refused(door.ask(head.replace(b"\r\n", b"\r")), 400, 408)
    door.assert_untouched()


@pytest.mark.parametrize("blank", [b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"\r\n" * 50, b" \r\n"])
def test_empty_lines_before_a_request(door: Door, blank: bytes) -> None:
    answer = door.ask(blank + door.head("GET /anthropic/odd/json"))
    assert answer.status in (200, 400)
    assert len(door.seen()) == (answer.status == 200)


def test_pipelined_answers_keep_their_order(door: Door) -> None:
    asked: list[tuple[str, int]] = []
    raw = b""
    for number in range(24):
        match number % 6:
            case 0:
                line, status = f"GET /anthropic/odd/informational?n={number}", 200
            case 1:
                line, status = "GET /nobody/x", 404
            case 2:
                line, status = f"GET /anthropic/odd/status/429?n={number}", 429
            case 3:
                line, status = "GET /openai/../x", 400
            case 4:
                line, status = f"GET /anthropic/odd/204?n={number}", 204
            case _:
                line, status = f"GET /openai/v1/nothing/n{number}", 404
        raw += door.head(line)
        asked.append((line, status))
        if number % 6 == 3:
            keyless = f"GET /anthropic/odd/json?n={number} HTTP/1.1\r\nHost: a\r\n\r\n"
            raw += keyless.encode()
            asked.append((keyless, 401))
    with door.wire() as wire:
        wire.send(raw)
        answers = [wire.answer() for _ in asked]
    assert [answer.status for answer in answers] == [status for _, status in asked]
    for (line, status), answer in zip(asked, answers, strict=True):
        if status == 200:
            assert line.split(" ")[1].removeprefix("/anthropic") in answer.body.decode()
    assert [request.target for request in door.seen()] == [
        line.split(" ")[1].removeprefix("/anthropic").removeprefix("/openai")
        for line, status in asked
        if status in (200, 429, 204) or "nothing" in line
    ]


def test_a_second_request_without_key_is_refused(door: Door) -> None:
    with door.wire() as wire:
        wire.send(
            door.head("GET /anthropic/odd/json")
            + b"GET /anthropic/odd/json HTTP/1.1\r\nHost: a\r\n\r\n"
            + door.head("GET /anthropic/odd/json?third")
        )
        assert [wire.answer().status for _ in range(3)] == [200, 401, 200]
    assert [request.target for request in door.seen()] == ["/odd/json", "/odd/json?third"]


@pytest.mark.parametrize("codes", ["100", "102,103", "100,103,100"])
def test_informational_answers_are_not_taken_for_the_answer(door: Door, codes: str) -> None:
    with door.wire() as wire:
        wire.send(
            door.head(f"GET /anthropic/odd/informational?codes={codes}&first")
            + door.head("GET /anthropic/odd/informational?codes=103&second")
        )
        first, second = wire.answer(), wire.answer()
    assert b"first" in first.body
    assert b"second" in second.body
    assert len(door.seen()) == 2


def test_more_bytes_than_an_answer_has_never_reach_another_request(door: Door) -> None:
    for path in ("too-much", "json?a"):
        with door.wire() as wire:
            wire.send(door.head(f"GET /anthropic/odd/{path}") * 3)
            answers = [wire.answer() for _ in range(3)]
        for answer in answers:
            assert b"wrong" not in answer.body
    script = door.world.script(
        "head-with-body",
        b"HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: crossed\r\n\r\nwrong",
    )
    with door.wire() as wire:
        wire.send(
            door.head(f"HEAD /anthropic{script}") + door.head("GET /anthropic/odd/json?after")
        )
        assert wire.answer("HEAD").status == 200
        after = wire.answer()
    assert b"sha256" in after.body
    assert not after.header("x")
    door.seen()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\nraw",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\nraw",
    ],
)
@pytest.mark.parametrize("upgrade", ["websocket", "H2C, websocket", "h2c", "TLS/1.2", ""])
def test_no_switch_of_protocols(door: Door, upgrade: str, answer: bytes) -> None:
    script = door.world.script("switch", answer, "close")
    headers = [f"Upgrade: {upgrade}", "Connection: Upgrade, HTTP2-Settings"] if upgrade else []
    got = door.ask(door.head(f"GET /anthropic{script}", *headers))
    assert got.status in (501, 502)
    assert b"raw" not in got.body
    for request in door.seen():
        assert not request.values("upgrade")
        assert not request.values("http2-settings")


def test_tls_on_the_plain_port(door: Door) -> None:
    hello = bytes.fromhex("160301007b0100007703030000000000000000000000000000000000000000")
    with door.wire() as wire:
        wire.send(hello)
        got = wire.rest()
    assert got[:1] != b"\x16", "no handshake, no certificate of mitmproxy's CA"
    assert got[:12] == b"HTTP/1.1 400"
    door.assert_untouched()


def test_http2_with_prior_knowledge(door: Door) -> None:
    with door.wire() as wire:
        wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
        assert wire.rest()[:12] == b"HTTP/1.1 400"
    door.assert_untouched()


def test_what_goes_upstream_is_read_by_h11_as_it_was_judged(door: Door) -> None:
    """The recording itself: bytes of a connection, parsed again from the first to the last."""
    body = b'{"model": "m", "messages": [], "max_tokens": 1}'
    for framing in (b"Content-Length: %d\r\n\r\n%b", b"Transfer-Encoding: chunked\r\n\r\n"):
        head = door.head("POST /anthropic/v1/messages", "Content-Type: application/json")[:-2]
        if b"%b" in framing:
            door.ask(head + framing % (len(body), body), method="POST")
        else:
            door.ask(head + framing + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body), method="POST")
    for request in door.seen():
        parser = h11.Connection(h11.SERVER)
        parser.receive_data(request.raw)
        event = parser.next_event()
        assert isinstance(event, h11.Request)
        assert (event.method, event.target) == (b"POST", b"/v1/messages")
        data = parser.next_event()
        assert isinstance(data, h11.Data)
        assert data.data == body
        assert isinstance(parser.next_event(), h11.EndOfMessage)
        assert parser.trailing_data == (b"", False)
