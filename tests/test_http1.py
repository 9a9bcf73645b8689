"""Heads: what is taken, what is refused, and that h11 reads every head that we take as we do."""

from __future__ import annotations

import itertools

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llamakey_addon import framing, http1
from llamakey_addon.errors import (
    BadRequest,
    Denied,
    HeadTooLarge,
    NotCarried,
    TargetTooLong,
    UpstreamFault,
)
from llamakey_addon.journey import KnownHead, KnownHeaders, values_of

LIMIT = 4096


def request(*lines: bytes, line: bytes = b"POST /x HTTP/1.1", host: bool = True) -> bytes:
    """A head's bytes."""
    return b"\r\n".join([line, *((b"Host: a",) if host else ()), *lines, b"", b""])


def parse(raw: bytes, *, fields: int = 100, size: int = LIMIT) -> http1.RequestHead:
    return http1.parse_request_head(raw, head_bytes=size, head_fields=fields)


# ── request heads that are taken ────────────────────────────────────────────────────────────────


def test_a_plain_head() -> None:
    head = parse(
        b"GET /a?b=c HTTP/1.1\r\nHost: x:1\r\nX-A: \t b c \t\r\nx-a:d\r\nEmpty:\r\nLast: e\r\n\r\n"
    )
    assert head == http1.RequestHead(
        method="GET",
        target="/a?b=c",
        headers=(
            (b"Host", b"x:1"),
            (b"X-A", b"b c"),
            (b"x-a", b"d"),
            (b"Empty", b""),
            (b"Last", b"e"),
        ),
        length=0,
        keep_alive=True,
        http10=False,
        expects_continue=False,
        websocket=False,
    )


def test_a_length_that_is_none_is_refused_whatever_came_before() -> None:
    """A head that comes again is known without its length's digits."""
    head = b"POST /again HTTP/1.1\r\nHost: a\r\nContent-Length: %b\r\n\r\n"
    assert [parse(head % digits).length for digits in (b"5", b"7")] == [5, 7]
    for digits in (b"", b"0x5", b"-5", b"5 5", b"+5"):
        with pytest.raises(BadRequest):
            parse(head % digits)
    assert parse(head % b"9").length == 9


# ── heads that come again ───────────────────────────────────────────────────────────────────────

AGAIN = b"POST /again HTTP/1.1\r\nHost: a\r\nContent-Length: %b\r\nTraceparent: %b\r\nX: y\r\n\r\n"


def again(length: bytes, trace: bytes) -> http1.RequestHead:
    return parse(AGAIN % (length, trace))


def known(head: http1.RequestHead) -> KnownHead:
    assert type(head.headers) is KnownHeaders
    return head.headers.known


def test_a_head_is_known_again_whatever_varies_of_it() -> None:
    first, second = again(b"5", b"00-aa-bb-01"), again(b"17", b"00-cc-dd-01")
    assert known(first) is known(second)
    assert (first.length, second.length) == (5, 17)
    assert second.headers == (
        (b"Host", b"a"),
        (b"Content-Length", b"17"),
        (b"Traceparent", b"00-cc-dd-01"),
        (b"X", b"y"),
    )
    for head, trace in ((first, b"00-aa-bb-01"), (second, b"00-cc-dd-01")):
        assert values_of(head.headers, b"traceparent") == (trace,)
        assert values_of(head.headers, b"x") == (b"y",)
        kept = http1.upstream_headers(head.headers, strip=frozenset(), authority="p")
        assert kept[1:3] == ((b"Traceparent", trace), (b"X", b"y"))
        stripped = frozenset({b"traceparent"})
        kept = http1.upstream_headers(head.headers, strip=stripped, authority="p")
        assert kept[1] == (b"X", b"y")


def test_what_varies_is_read_all_the_same() -> None:
    again(b"5", b"00-aa-bb-01")
    for bad in (b"caf\xc3\xa9", b"a\x00b", b"a\rb", b"a\nb"):
        with pytest.raises(BadRequest):
            again(b"5", bad)
    local = again(b"5", b"sk-lmk-abc")
    assert type(local.headers) is tuple, "a key that stands there is seen by who looks for keys"
    kept = http1.upstream_headers(local.headers, strip=frozenset(), authority="p")
    assert b"Traceparent" not in dict(kept)
    assert again(b"5", b" \t a b ").headers[2] == (b"Traceparent", b"a b")
    with pytest.raises(HeadTooLarge):
        parse(AGAIN % (b"5", b"00"), fields=3)


@settings(deadline=None)
@given(
    lines=st.lists(
        st.sampled_from(
            [
                b"Content-Length: 5",
                b"content-length:5",
                b"Content-Length:  6 ",
                b"traceparent: a",
                b"TraceParent: b",
                b"tracestate:c",
                b"traceparent: ",
                b"traceparent:",
                b"Idempotency-Key: \t d",
                b"X-Request-Id: e\t",
                b"X: traceparent: f",
                b"Connection: traceparent",
                b"Transfer-Encoding: chunked",
            ]
        ),
        max_size=6,
    ),
)
def test_a_known_head_reads_as_an_unknown_one(lines: list[bytes]) -> None:
    raw = request(*lines)
    try:
        plain = http1._parse_request_head(raw, 100)
    except Denied as denied:
        for _ in range(2):
            with pytest.raises(type(denied)):
                parse(raw)
        return
    for _ in range(2):
        head = parse(raw)
        assert head == plain
        for name in (b"traceparent", b"connection", b"x"):
            assert values_of(head.headers, name) == values_of(plain.headers, name)
        assert http1.upstream_headers(
            head.headers, strip=frozenset(), authority="p"
        ) == http1.upstream_headers(plain.headers, strip=frozenset(), authority="p")


def test_no_more_heads_are_known_than_there_is_room_for() -> None:
    first = again(b"5", b"a")
    for n in range(2000):
        parse(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n)
        if n % 100 == 0:
            assert known(again(b"5", b"a")) is known(first), "one that comes again and again stays"
    heads = http1._known_heads
    assert len(heads._young) + len(heads._old) <= 2 * http1._KNOWN_HEADS
    large = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * http1._KNOWN_HEAD_BYTES + b"\r\n\r\n"
    assert type(parse(large).headers) is tuple


@pytest.mark.parametrize(
    ("line", "headers", "keep_alive"),
    [
        (b"GET / HTTP/1.1", (), True),
        (b"GET / HTTP/1.1", (b"Connection: close",), False),
        (b"GET / HTTP/1.1", (b"Connection: Keep-Alive, CLOSE",), False),
        (b"GET / HTTP/1.1", (b"Connection: x", b"Connection: close"), False),
        (b"GET / HTTP/1.0", (), False),
        (b"GET / HTTP/1.0", (b"Connection: Keep-Alive",), True),
        (b"GET / HTTP/1.0", (b"Connection: keep-alive, close",), False),
    ],
)
def test_keep_alive(line: bytes, headers: tuple[bytes, ...], keep_alive: bool) -> None:
    assert parse(request(*headers, line=line)).keep_alive is keep_alive


@pytest.mark.parametrize(
    ("headers", "length"),
    [
        ((), 0),
        ((b"Content-Length: 0",), 0),
        ((b"Content-Length: 17",), 17),
        ((b"Content-Length: \t17\t ",), 17),
        ((b"content-length:000017",), 17),
        ((b"Transfer-Encoding: chunked",), framing.CHUNKED),
        ((b"transfer-encoding:Chunked ",), framing.CHUNKED),
    ],
)
def test_how_a_body_is_framed(headers: tuple[bytes, ...], length: int) -> None:
    assert parse(request(*headers)).length == length


def test_expectations_and_upgrades() -> None:
    assert parse(request(b"Expect: 100-Continue")).expects_continue
    assert not parse(request(b"Expect: 100-continue", line=b"POST / HTTP/1.0")).expects_continue
    assert parse(request(b"Upgrade: WebSocket", b"Connection: x, Upgrade")).websocket
    assert parse(request(b"Upgrade: h2c, websocket", b"Connection: upgrade")).websocket
    assert not parse(request(b"Upgrade: websocket")).websocket
    assert not parse(request(b"Upgrade: h2c", b"Connection: upgrade")).websocket


def test_an_http10_head_needs_no_host() -> None:
    assert parse(request(line=b"GET / HTTP/1.0", host=False)).http10


# ── request heads that are refused ──────────────────────────────────────────────────────────────

BAD_LINES = [
    b"",
    b"GET",
    b"GET /",  # HTTP/0.9
    b"GET / ",
    b"GET /  HTTP/1.1",
    b"GET  / HTTP/1.1",
    b" GET / HTTP/1.1",
    b"GET\t/ HTTP/1.1",
    b"GET / HTTP/1.1 ",
    b"GET /a b HTTP/1.1",
    b"GET / HTTP/0.9",
    b"GET / HTTP/1.2",
    b"GET / HTTP/2.0",
    b"GET / HTTP/9.9",
    b"GET / HTTP/1",
    b"GET / HTTP/1.1.1",
    b"GET / HTTP/11",
    b"GET / http/1.1",
    b"GET / RTSP/1.0",
    b"SOURCE / ICE/1.0",
    b"get / HTTP/1.1",
    b"Get / HTTP/1.1",
    b"GE%54 / HTTP/1.1",
    b"GET/x / HTTP/1.1",
    b"FOO / HTTP/1.1",
    b"PRI * HTTP/2.0",
    b"DESCRIBE / HTTP/1.1",
    b"G" * 40 + b" / HTTP/1.1",
    b"GET /\x00 HTTP/1.1",
    b"GET /\x7f HTTP/1.1",
    b"GET /\xc3\xa9 HTTP/1.1",
    b"GET /\x0b HTTP/1.1",
    b"GET /\r HTTP/1.1",
    b"\x16\x03\x01\x02\x00\x01",
]


@pytest.mark.parametrize("line", BAD_LINES)
def test_bad_request_lines(line: bytes) -> None:
    with pytest.raises(BadRequest):
        parse(request(line=line))


BAD_HEADERS = [
    b"X : a",
    b"X\t: a",
    b": a",
    b"X",
    b"X(: a",
    b"X\x00: a",
    b"X\xe9: a",
    b"X: a\x00b",
    b"X: a\x0bb",
    b"X: a\x7fb",
    b"X: caf\xc3\xa9",
    b"X: a\rb",
    b"X: a\nb",
    b"X: a\n",
    b"X: a\r",
    b"X: a\r\n b",
    b"X: a\r\n\tb",
    b"X: a\r\n ",
    b"X: a\r\r\n b",
    b"Host: b",  # a second one
    b"Content-Length: -1",
    b"Content-Length: +1",
    b"Content-Length: 1 ,",
    b"Content-Length: 1, 1",
    b"Content-Length: 0x1",
    b"Content-Length: 1_0",
    b"Content-Length: 1.0",
    b"Content-Length: 1e3",
    b"Content-Length: 1 1",
    b"Content-Length:",
    b"Content-Length: \xb9",
    b"Content-Length: 1234567890123456",
    b"Content-Length: 18446744073709551617",
    b"Content-Length: 1\r\nContent-Length: 1",
    b"Content-Length: 1\r\ncontent-length: 2",
    b"Content-Length: 1\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nContent-Length: 1",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding : chunked",
    b" Transfer-Encoding: chunked",
    b"Transfer-Encoding\x0b: chunked",
    b"Transfer-Encoding: \x0bchunked",
    b"Transfer-Encoding: chunked\x00",
    b"Transfer-Encoding:\r\n chunked",
    b"Expect: 200-ok",
    b"Expect: 100-continue, x",
]


@pytest.mark.parametrize("header", BAD_HEADERS)
def test_bad_headers(header: bytes) -> None:
    with pytest.raises(BadRequest):
        parse(request(header))


@pytest.mark.parametrize(
    "value",
    [
        b"identity",
        b"gzip",
        b"gzip, chunked",
        b"chunked, chunked",
        b"chunked, identity",
        b"xchunked",
        b"chunkedx",
        b"chunked;q=1",
        b'"chunked"',
        b"",
        b",chunked",
        b"chun ked",
    ],
)
def test_unknown_transfer_codings(value: bytes) -> None:
    with pytest.raises((BadRequest, NotCarried)):
        parse(request(b"Transfer-Encoding: " + value))


def test_the_host() -> None:
    with pytest.raises(BadRequest, match="Host"):
        parse(request(line=b"GET / HTTP/1.1", host=False))
    with pytest.raises(BadRequest, match="Host"):
        parse(request(b"Host: b", line=b"GET / HTTP/1.0"))


def test_http10_has_no_chunks() -> None:
    with pytest.raises(BadRequest, match=r"HTTP/1\.0"):
        parse(request(b"Transfer-Encoding: chunked", line=b"POST / HTTP/1.0"))


def test_sizes() -> None:
    fits = request(b"X: " + b"a" * (LIMIT - len(request(b"X: "))))
    assert len(fits) == LIMIT
    assert parse(fits).method == "POST"
    with pytest.raises(HeadTooLarge) as large:
        parse(request(b"X: " + b"a" * LIMIT))
    assert large.value.setting == "limits.head_bytes"
    with pytest.raises(TargetTooLong) as long:
        parse(request(line=b"GET /" + b"a" * LIMIT + b" HTTP/1.1"))
    assert long.value.setting == "limits.head_bytes"
    with pytest.raises(HeadTooLarge):
        parse(request(b"X: " + b"a" * 17000), size=65536)


def test_the_number_of_headers() -> None:
    parse(request(*[b"X: a"] * 9), fields=10)
    with pytest.raises(HeadTooLarge) as many:
        parse(request(*[b"X: a"] * 10), fields=10)
    assert many.value.setting == "limits.head_fields"


# ── heads in pieces ─────────────────────────────────────────────────────────────────────────────

WHOLE = request(b"X: \t a", b"Y:", line=b"GET /some/path?q HTTP/1.1")


@settings(deadline=None)
@given(cuts=st.lists(st.integers(1, len(WHOLE) - 1), max_size=12))
@example(cuts=list(range(1, len(WHOLE))))
def test_a_good_head_in_any_pieces(cuts: list[int]) -> None:
    edges = [0, *sorted(set(cuts)), len(WHOLE)]
    buffer = bytearray()
    searched = 0
    for start, end in itertools.pairwise(edges):
        buffer += WHOLE[start:end]
        found = http1.find_head_end(buffer, searched)
        if end < len(WHOLE):
            assert found == -1
            http1.check_partial_head(buffer, searched, head_bytes=LIMIT)
            searched = len(buffer)
        else:
            assert found == len(WHOLE)


@pytest.mark.parametrize("bad", [b"GET / HTTP/1.1\nHost: a\n\n", b"GET / HTTP/1.1\r\nX: a\rb\r\n"])
def test_a_head_that_would_never_end_is_refused_in_any_pieces(bad: bytes) -> None:
    for size in range(1, len(bad)):
        with pytest.raises(BadRequest):
            check_in_pieces(bad, size)


def check_in_pieces(head: bytes, size: int) -> None:
    buffer = bytearray()
    searched = 0
    for start in range(0, len(head), size):
        buffer += head[start : start + size]
        http1.check_partial_head(buffer, searched, head_bytes=LIMIT)
        searched = len(buffer)


def test_a_partial_head_is_bounded() -> None:
    with pytest.raises(TargetTooLong):
        http1.check_partial_head(bytearray(b"GET /" + b"a" * 100), 0, head_bytes=64)
    with pytest.raises(HeadTooLarge):
        http1.check_partial_head(bytearray(WHOLE[:-2] + b"a" * 100), 0, head_bytes=64)


def test_tls_on_the_plain_port_is_told_so() -> None:
    with pytest.raises(BadRequest, match="http://"):
        http1.check_partial_head(bytearray(b"\x16\x03\x01"), 0, head_bytes=64)


# ── a second opinion ────────────────────────────────────────────────────────────────────────────

PARTS = [
    *BAD_LINES,
    *BAD_HEADERS,
    b"GET / HTTP/1.1",
    b"POST /a?b HTTP/1.1",
    b"PUT /%00 HTTP/1.0",
    b"HEAD * HTTP/1.1",
    b"Host: a",
    b"Host:",
    b"Content-Length: 5",
    b"Transfer-Encoding: chunked",
    b"transfer_encoding: chunked",
    b"X: a",
    b"X:a:b ",
    b"Connection: close",
    b"Upgrade: websocket",
    b"",
]
HEADS = st.one_of(
    st.builds(
        lambda line, parts, end: b"\r\n".join([line, *parts]) + end,
        st.sampled_from(PARTS),
        st.lists(st.sampled_from(PARTS), max_size=4),
        st.sampled_from([b"\r\n\r\n", b"\n\n", b"\r\n\n", b"\n\r\n"]),
    ),
    st.builds(
        lambda at, junk: WHOLE[:at] + junk + WHOLE[at:],
        st.integers(0, len(WHOLE)),
        st.binary(max_size=3),
    ),
    st.builds(lambda at: WHOLE[:at] + WHOLE[at + 1 :], st.integers(0, len(WHOLE))),
)


@settings(deadline=None, max_examples=400)
@given(raw=HEADS)
def test_h11_reads_every_head_that_is_taken_as_we_do(raw: bytes) -> None:
    end = http1.find_head_end(bytearray(raw))
    if end < 0:
        return
    raw = raw[:end]
    try:
        head = parse(raw)
    except Denied:
        return
    other = h11.Connection(h11.SERVER)
    other.receive_data(raw)
    event = other.next_event()
    assert isinstance(event, h11.Request)
    assert event.method == head.method.encode()
    assert event.target == head.target.encode()
    assert event.headers.raw_items() == list(head.headers)
    assert event.http_version == (b"1.0" if head.http10 else b"1.1")
    if head.length == 0:
        assert isinstance(other.next_event(), h11.EndOfMessage)


# ── what goes upstream ──────────────────────────────────────────────────────────────────────────


def test_what_of_a_head_goes_upstream() -> None:
    headers = (
        (b"Host", b"localhost:8000"),
        (b"Authorization", b"Bearer sk-lmk-x"),
        (b"X_Api_Key", b"sk-lmk-x"),
        (b"Connection", b"close, X-Hop"),
        (b"X-Hop", b"a"),
        (b"TE", b"trailers"),
        (b"Transfer_Encoding", b"chunked"),
        (b"content_length", b"5"),
        (b"Content-Length", b"5"),
        (b"Cookie", b"a=b"),
        (b"Expect", b"100-continue"),
        (b"Forwarded", b"for=1"),
        (b"X-Forwarded-For", b"1"),
        (b"X_Forwarded_Proto", b"https"),
        (b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="),
        (b"Sec_WebSocket_Protocol", b"a"),
        (b"X-HTTP-Method-Override", b"DELETE"),
        (b"Accept-Encoding", b"br;q=1, GZIP;q=0.5, deflate, zstd"),
        (b"User-Agent", b"t"),
        (b"X-Twice", b"1"),
        (b"x-twice", b"2"),
    )
    kept = http1.upstream_headers(
        headers, strip=frozenset({b"authorization", b"x-api-key"}), authority="api.example"
    )
    assert kept == (
        (b"Host", b"api.example"),
        (b"User-Agent", b"t"),
        (b"X-Twice", b"1"),
        (b"x-twice", b"2"),
        (b"Accept-Encoding", b"GZIP;q=0.5, deflate"),
    )


@pytest.mark.parametrize("accept", [b"br", b"zstd, br", b"", b"*"])
def test_no_coding_is_asked_for_that_cannot_be_read(accept: bytes) -> None:
    kept = http1.upstream_headers(((b"Accept-Encoding", accept),), strip=frozenset(), authority="a")
    assert kept[-1] == (b"Accept-Encoding", b"identity")


def test_a_written_request_head() -> None:
    raw = http1.write_request_head("POST", "/x?y", ((b"Host", b"a"), (b"B", b"c")))
    assert raw == b"POST /x?y HTTP/1.1\r\nHost: a\r\nB: c\r\n\r\n"


# ── answer heads ────────────────────────────────────────────────────────────────────────────────


def answer(
    *lines: bytes, status: bytes = b"HTTP/1.1 200 OK", method: str = "POST"
) -> http1.AnswerHead:
    return http1.parse_answer_head(b"\r\n".join([status, *lines, b"", b""]), request_method=method)


@pytest.mark.parametrize(
    ("status", "lines", "method", "length", "keep_alive"),
    [
        (b"HTTP/1.1 200 OK", (b"Content-Length: 5",), "GET", 5, True),
        (b"HTTP/1.1 200 OK", (b"Transfer-Encoding: chunked",), "GET", framing.CHUNKED, True),
        (b"HTTP/1.1 200 OK", (), "GET", framing.UNTIL_CLOSE, False),
        (b"HTTP/1.1 200 OK", (b"Content-Length: 5",), "HEAD", 0, True),
        (b"HTTP/1.1 200 OK", (b"Transfer-Encoding: chunked",), "HEAD", 0, True),
        (b"HTTP/1.1 200 OK", (), "HEAD", 0, True),
        (b"HTTP/1.1 204 No Content", (), "GET", 0, True),
        (b"HTTP/1.1 304 Not Modified", (b"Content-Length: 5",), "GET", 0, True),
        (b"HTTP/1.1 100 Continue", (), "GET", 0, True),
        (b"HTTP/1.1 200 OK", (b"Content-Length: 5", b"Connection: close"), "GET", 5, False),
        (b"HTTP/1.0 200 OK", (b"Content-Length: 5",), "GET", 5, False),
        (b"HTTP/1.0 200 OK", (b"Content-Length: 5", b"Connection: keep-alive"), "GET", 5, True),
    ],
)
def test_how_an_answer_is_framed(
    status: bytes, lines: tuple[bytes, ...], method: str, length: int, keep_alive: bool
) -> None:
    head = answer(*lines, status=status, method=method)
    assert (head.length, head.keep_alive) == (length, keep_alive)


@pytest.mark.parametrize(
    ("line", "status", "reason"),
    [
        (b"HTTP/1.1 200 OK", 200, b"OK"),
        (b"HTTP/1.1 404 ", 404, b""),
        (b"HTTP/1.1 429", 429, b""),
        (b"HTTP/1.1 500 Caf\xe9 ferm\xc3\xa9", 500, b"Caf\xe9 ferm\xc3\xa9"),
        (b"HTTP/1.1 999 Odd", 999, b"Odd"),
    ],
)
def test_status_lines(line: bytes, status: int, reason: bytes) -> None:
    head = answer(status=line)
    assert (head.status, head.reason) == (status, reason)


def test_header_values_of_answers_may_hold_any_text() -> None:
    assert answer("X: grüße".encode(), b"Y: a\tb").headers == (
        (b"X", "grüße".encode()),
        (b"Y", b"a\tb"),
    )


@pytest.mark.parametrize(
    "lines",
    [
        (b"Content-Length: 5", b"Content-Length: 6"),
        (b"Content-Length: 5", b"content-length: 5"),
        (b"Content-Length: 5, 5",),
        (b"Content-Length: -5",),
        (b"Content-Length: 5x",),
        (b"Content-Length: 1234567890123456",),
        (b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        (b"Transfer-Encoding: gzip, chunked",),
        (b"Transfer-Encoding: identity",),
        (b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
        (b"X: a\r\n b",),
        (b"X: a\rb",),
        (b"X: a\nb",),
        (b"X: a\x00b",),
        (b"X : a",),
        (b"no colon",),
    ],
)
def test_bad_answers(lines: tuple[bytes, ...]) -> None:
    with pytest.raises(UpstreamFault):
        answer(*lines)


@pytest.mark.parametrize(
    "line",
    [
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 2000 OK",
        b"HTTP/1.1 099 OK",
        b"HTTP/2 200 OK",
        b"HTTP/1.2 200 OK",
        b"ICY 200 OK",
        b"200 OK",
        b"HTTP/1.1  200 OK",
        b"HTTP/1.1 200OK",
        b"HTTP/1.1 200 a\x00b",
        b"",
    ],
)
def test_bad_status_lines(line: bytes) -> None:
    with pytest.raises(UpstreamFault):
        answer(status=line)


ANSWER_LINES = [
    b"Date: Sat, 28 Nov 2026 07:00:00 GMT",
    b"Server: a  b",
    b"Server:  a",
    b"Content-Length: 5",
    b"Content-Length: 6",
    b"content-length: 07",
    b"Content-Length:  5",
    b"Content-Length: 5x",
    b"Content-Length: 1234567890123456",
    b"Transfer-Encoding: chunked",
    b"transfer-encoding: Chunked",
    b"Transfer-Encoding: gzip",
    b"Connection: keep-alive",
    b"connection: CLOSE",
    b"Connection: close",
    b"Connection: X-Hop",
    b"Connection: close, x-hop",
    b"X-Hop: 1",
    b"Close: 1",
    b"Keep-Alive: timeout=5",
    b"Upgrade: h2c",
    b"Content-Encoding: gzip",
    b"content-encoding: identity",
    b"Set-Cookie: a: b",
    b"Set-Cookie: a:b",
    b"Set-Cookie:a",
    b"Set-Cookie",
    b"Set-Cookie:",
    b"Set-Cookie: ",
    b"Set-Cookie: a ",
    b"Set-Cookie: a\t",
    b"Set-Cookie: caf\xe9",
    b"Set-Cookie: a\tb",
    b"Set-Cookie: a\r",
    b"Set-Cookie: a\rb",
    b"Set-Cookie: a\nb: c",
    b"Set-Cookie : a",
    b"Set-Cookie: a\x00",
    b" folded",
    b": a",
    b"",
]


@pytest.mark.parametrize(
    "status",
    [b"HTTP/1.1 200 OK", b"HTTP/1.1 204 No Content", b"HTTP/1.0 200 OK", b"HTTP/1.1 101 X"],
)
def test_an_answers_head_reads_alike_by_the_short_way(status: bytes) -> None:
    for first, second in itertools.product(ANSWER_LINES, repeat=2):
        raw = b"\r\n".join([status, first, b"A: b", second, b"", b""])
        for method in ("GET", "HEAD"):
            try:
                plain = http1._parse_answer_head(raw, method)
            except UpstreamFault:
                with pytest.raises(UpstreamFault):
                    http1.parse_answer_head(raw, request_method=method)
            else:
                assert http1.parse_answer_head(raw, request_method=method) == plain


def test_an_answer_as_they_are_takes_the_short_way() -> None:
    lines = [b"Date: now", b"Connection: keep-alive", b"Content-Type: a/b", b"Content-Length: 5"]
    raw = b"\r\n".join([b"HTTP/1.1 200 OK", *lines, b"", b""])
    first = http1.parse_answer_head(raw, request_method="POST")
    assert http1._read_answer_head(raw, "POST") == first
    assert http1._read_answer_head(raw.replace(b"now", b"later"), "POST") is not None


def test_no_more_names_are_known_than_there_is_room_for() -> None:
    for n in range(http1._NAMES_KEPT + 50):
        answer(b"X-%d: a" % n, status=b"HTTP/1.1 200 OK %d" % n)
    assert len(http1._answer_names) <= http1._NAMES_KEPT
    assert len(http1._status_lines) <= http1._STATUS_LINES_KEPT
    answer(b"X" * 100 + b": a")
    assert b"X" * 100 not in http1._answer_names


def test_end_to_end_headers_of_an_answer() -> None:
    headers = (
        (b"Content-Type", b"a/b"),
        (b"Connection", b"keep-alive, X-Hop"),
        (b"Keep-Alive", b"timeout=5"),
        (b"x-hop", b"1"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Trailer", b"X"),
        (b"Set-Cookie", b"a"),
        (b"Set-Cookie", b"b"),
    )
    assert http1.end_to_end(headers) == (
        (b"Content-Type", b"a/b"),
        (b"Set-Cookie", b"a"),
        (b"Set-Cookie", b"b"),
    )


def test_a_written_answer_head() -> None:
    raw = http1.write_answer_head(404, b"Not Found", ((b"A", b"b"),))
    assert raw == b"HTTP/1.1 404 Not Found\r\nA: b\r\n\r\n"
