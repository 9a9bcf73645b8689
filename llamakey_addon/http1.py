"""HTTP/1.1 heads as this proxy reads and writes them. No I/O.

Theory of operation. llhttp (through httptools) parses the lines of a head, and is handed exactly
one head at a time, because it tells neither where a message ended nor lets the answer to a HEAD
end. What it lets pass and we do not (other version words, two spaces, bytes that are no visible
text, a second Host, any coding but `chunked`) is refused here first, so that both ends of the
proxy read the same message. Bodies are `framing.py`'s.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import httptools

from llamakey_addon.errors import BadRequest, HeadTooLarge, NotCarried, TargetTooLong, UpstreamFault
from llamakey_addon.framing import CHUNKED, UNTIL_CLOSE
from llamakey_addon.journey import Headers, KnownHead, KnownHeaders
from llamakey_addon.keys import MARK
from llamakey_addon.quick import quick

_LOCAL_MARK: Final = MARK.encode()
_VALUE_BYTES: Final = 16 * 1024
_REQUEST_LINE = re.compile(rb"([A-Z][A-Z-]{0,31}) ([\x21-\x7e]+) HTTP/1\.([01])\r\n")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?\r\n")
#: What a request's head may hold, and what an answer's. `translate` tells in one step in C whether
#: there is anything else, where a regular expression takes ten times as long.
_TEXT: Final = bytes((9, 10, 13, *range(0x20, 0x7F)))
_ANSWER_TEXT: Final = _TEXT + bytes(range(0x80, 0x100))
_ANSWER_LINE_TEXT: Final = bytes((9, *range(0x20, 0x7F), *range(0x80, 0x100)))
_VALUE_TEXT: Final = bytes((9, *range(0x20, 0x7F)))
# a CR at the very end may yet be followed by its LF
_LONE_CR_OR_LF = re.compile(rb"\r(?=[^\n])|(?<!\r)\n")
_LENGTH_DIGITS: Final = 15
_LENGTH = re.compile(rb"[0-9]{1,%d}" % _LENGTH_DIGITS)

#: Headers that belong to one connection (RFC 9110 7.6.1), with those of proxies.
HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    }
)

#: What a client or a proxy before us says of where a request came from.
_FORWARDING: Final = frozenset(
    {
        b"forwarded",
        b"via",
        b"x-real-ip",
        b"true-client-ip",
        b"x-client-ip",
        b"x-cluster-client-ip",
        b"cf-connecting-ip",
        b"fastly-client-ip",
        b"x-original-url",
        b"x-rewrite-url",
        b"x-http-method-override",
        b"x-method-override",
        b"x-http-method",
    }
)

#: Written anew for every request upstream.
_OURS: Final = frozenset({b"host", b"content-length", b"expect", b"accept-encoding", b"cookie"})

#: Headers that say how a message is read, and what is done with its connection.
_OF_THE_MESSAGE: Final = frozenset(
    {b"host", b"content-length", b"transfer-encoding", b"connection", b"expect", b"upgrade"}
)

_OF_THE_ANSWER: Final = frozenset(
    {b"content-length", b"transfer-encoding", b"connection", b"content-encoding", b"content-type"}
)

_READABLE_CODINGS: Final = frozenset({b"gzip", b"x-gzip", b"deflate", b"identity"})


@quick
@dataclass(frozen=True, slots=True)
class RequestHead:
    """A request's head, and how its body is framed."""

    method: str
    target: str
    headers: Headers
    length: int
    """Bytes of the body, or CHUNKED."""
    keep_alive: bool
    http10: bool
    expects_continue: bool
    websocket: bool
    """It asks to become a WebSocket, rightly or wrongly."""


@quick
@dataclass(frozen=True, slots=True)
class AnswerHead:
    """An answer's head, and how its body is framed."""

    status: int
    reason: bytes
    headers: Headers
    """Without those of the connection to the provider (`end_to_end`); of a 101 all of them."""
    length: int
    """Bytes of the body, CHUNKED, or UNTIL_CLOSE."""
    keep_alive: bool
    coding: bytes = b""
    """Content-Encoding, as it stands."""
    kind: bytes = b""
    """Content-Type, as it stands."""


class _Lines:
    """What llhttp calls back while it reads a head."""

    __slots__ = ("headers",)

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value.rstrip(b" \t")))


def _has_lone_cr_or_lf(raw: bytes) -> bool:
    pairs = raw.count(b"\r\n")
    return raw.count(b"\n") != pairs or raw.count(b"\r") != pairs


def _has_fold(raw: bytes) -> bool:
    return b"\r\n " in raw or b"\r\n\t" in raw


def find_head_end(buffer: bytes | bytearray, start: int = 0) -> int:
    """Index after the empty line that ends a head, or -1. `start`: where the last search ended."""
    end = buffer.find(b"\r\n\r\n", start - 3 if start > 3 else 0)
    return -1 if end < 0 else end + 4


def check_partial_head(buffer: bytearray, start: int, *, head_bytes: int) -> None:
    """Refuse early what cannot become a head any more; `start`: how far the last look went.

    Raises:
        TargetTooLong, HeadTooLarge: over `head_bytes`.
        BadRequest: a line that ends in a bare LF (we would wait for the empty line in vain).
    """
    if len(buffer) > head_bytes:
        if buffer.find(b"\r\n", 0, head_bytes) < 0:
            raise TargetTooLong(
                f"The request line is longer than {head_bytes} bytes.", setting="limits.head_bytes"
            )
        raise HeadTooLarge(
            f"The headers are larger than {head_bytes} bytes.", setting="limits.head_bytes"
        )
    if buffer[:1] == b"\x16":
        raise BadRequest("This port speaks plain HTTP: use an http:// address.")
    if _LONE_CR_OR_LF.search(buffer, max(0, start - 2)):
        raise BadRequest("Header lines must end in CR LF.")


#: Names whose values differ from request to request and say nothing that is judged by a rule of
#: ours: a head is known again without them. (A length is judged, and is read each time.)
_VARYING: Final = (
    b"content-length",
    b"amz-sdk-invocation-id",
    b"b3",
    b"idempotency-key",
    b"request-id",
    b"sentry-trace",
    b"traceparent",
    b"tracestate",
    b"x-amzn-trace-id",
    b"x-b3-parentspanid",
    b"x-b3-spanid",
    b"x-b3-traceid",
    b"x-client-request-id",
    b"x-cloud-trace-context",
    b"x-correlation-id",
    b"x-datadog-parent-id",
    b"x-datadog-trace-id",
    b"x-idempotency-key",
    b"x-ms-client-request-id",
    b"x-request-id",
)
_LENGTH_NAMES: Final = (b"\r\nContent-Length: ", b"\r\ncontent-length: ")
#: Splits a head into what is known again, and, as each third piece, what varies.
_VARIES: Final = re.compile(rb"(\r\n(?:%b): )([^\r\n]*)" % b"|".join(_VARYING), re.IGNORECASE)
_KNOWN_HEADS: Final = 256
_KNOWN_HEAD_BYTES: Final = 2048


class _KnownHeads:
    """Heads that were parsed, by their bytes without what varies: a client sends the same one again
    and again. Those that came last stay."""

    def __init__(self) -> None:
        self._young: dict[bytes, RequestHead] = {}
        self._old: dict[bytes, RequestHead] = {}

    def find(self, key: bytes) -> RequestHead | None:
        found = self._young.get(key)
        if found is None and (found := self._old.get(key)) is not None:
            self.keep(key, found)
        return found

    def keep(self, key: bytes, head: RequestHead) -> None:
        if len(self._young) >= _KNOWN_HEADS:
            self._old, self._young = self._young, {}
        self._young[key] = head


_known_heads = _KnownHeads()


def parse_request_head(raw: bytes, *, head_bytes: int, head_fields: int) -> RequestHead:
    """Parse one whole head, up to and with its empty line.

    Raises:
        BadRequest, TargetTooLong, HeadTooLarge, NotCarried
    """
    if len(raw) > head_bytes:
        if raw.find(b"\r\n") > head_bytes // 2:
            raise TargetTooLong(
                f"The request line and headers are longer than {head_bytes} bytes.",
                setting="limits.head_bytes",
            )
        raise HeadTooLarge(
            f"The headers are larger than {head_bytes} bytes.", setting="limits.head_bytes"
        )
    if len(raw) > _KNOWN_HEAD_BYTES:
        return _parse_request_head(raw, head_fields)
    # As most heads are, nothing varies but the length; a search for that alone is quick.
    key, values = raw, _NO_VALUES
    for name in _LENGTH_NAMES:
        at = raw.find(name)
        if at >= 0:
            at += len(name)
            end = raw.find(b"\r\n", at)
            key, values = raw[:at] + raw[end:], [raw[at:end]]
            break
    known = _known_heads.find(key)
    if known is None:
        pieces = _VARIES.split(raw)
        if len(pieces) > 1 + 3 * len(values):
            values = pieces[2::3]
            del pieces[2::3]
            key = b"".join(pieces) + b"*"  # so that it is no head
            known = _known_heads.find(key)
    if known is None or len(known.headers) > head_fields:
        head = _parse_request_head(raw, head_fields)
        return _remember(key, raw, head) if all(map(_is_dull, values)) else head
    if not values:
        return known
    return _with(known, values) or _parse_request_head(raw, head_fields)


_NO_VALUES: Final[list[bytes]] = []


def _with(head: RequestHead, values: list[bytes]) -> RequestHead | None:
    """A known head with what varies of it; None where that has to be looked at."""
    before = head.headers
    assert type(before) is KnownHeaders
    known = before.known
    places = known.places
    length = head.length
    pairs = [*before]
    for at, value in enumerate(values):
        place = places[at]
        pairs[place] = (before[place][0], value)
        if place == known.length_place:
            if not value.isdigit() or len(value) > _LENGTH_DIGITS:
                return None
            length = int(value)
        elif not _is_dull(value):
            return None
    headers = KnownHeaders(pairs)
    headers.known = known
    return RequestHead(
        head.method,
        head.target,
        headers,
        length,
        head.keep_alive,
        head.http10,
        head.expects_continue,
        head.websocket,
    )


def _is_dull(value: bytes) -> bool:
    """Whether a value that varies says nothing: it is text, as a head's value stands after parsing,
    and holds no local key."""
    return (
        not value.translate(None, _VALUE_TEXT)
        and _LOCAL_MARK not in value
        and value == value.strip(b" \t")
    )


def _remember(key: bytes, raw: bytes, head: RequestHead) -> RequestHead:
    """A head that came for the first time, as it will be known."""
    if head.websocket:
        return head  # each has a key of its own, and none comes again
    headers = KnownHeaders(head.headers)
    # of each line that varies, how many stand before it
    places = tuple(raw.count(b"\r\n", 0, found.start()) for found in _VARIES.finditer(raw))
    headers.known = KnownHead(head.method, head.target, headers, places)
    head = replace(head, headers=headers)
    _known_heads.keep(key, head)
    return head


def _parse_request_head(raw: bytes, head_fields: int) -> RequestHead:
    line = _REQUEST_LINE.match(raw)
    if line is None:
        raise BadRequest("The request line is not `METHOD /path HTTP/1.1`.")
    if raw.translate(None, _TEXT):
        raise BadRequest("A header holds bytes that are not visible ASCII text.")
    if _has_lone_cr_or_lf(raw):
        raise BadRequest("Header lines must end in CR LF.")
    if _has_fold(raw):
        raise BadRequest("A header is folded over several lines; write it on one.")
    lines = _Lines()
    try:
        httptools.HttpRequestParser(lines).feed_data(raw)
    except httptools.HttpParserUpgrade:
        pass  # the head is complete; what an Upgrade means is judged below
    except httptools.HttpParserError as error:
        raise BadRequest(f"The request is not valid HTTP/1.1: {error}.") from None
    if len(lines.headers) > head_fields:
        raise HeadTooLarge(
            f"There are more than {head_fields} headers.", setting="limits.head_fields"
        )
    http10 = line[3] == b"0"
    hosts = 0
    length = 0
    lengths = codings = 0
    connection: set[bytes] = set()
    expects = websocket = False
    for name, value in lines.headers:
        if len(value) > _VALUE_BYTES:
            raise HeadTooLarge(f"A header's value is longer than {_VALUE_BYTES} bytes.")
        key = name.lower()
        if key not in _OF_THE_MESSAGE:
            continue
        if key == b"host":
            hosts += 1
        elif key == b"content-length":
            lengths += 1
            if not _LENGTH.fullmatch(value):
                raise BadRequest("Content-Length is not a number.")
            length = int(value)
        elif key == b"transfer-encoding":
            codings += 1
            if value.lower() != b"chunked":
                raise NotCarried("The only Transfer-Encoding taken here is `chunked`.")
        elif key == b"connection":
            connection.update(token.strip().lower() for token in value.split(b","))
        elif key == b"expect":
            if value.lower() != b"100-continue":
                raise BadRequest("The only expectation known here is 100-continue.")
            expects = True
        elif key == b"upgrade":
            websocket = websocket or b"websocket" in value.lower()
    if hosts > 1 or (hosts == 0 and not http10):
        raise BadRequest("A request names exactly one Host.")
    if lengths > 1 or codings > 1 or (lengths and codings):
        raise BadRequest("The body's length is given more than once.")
    if codings and http10:
        raise BadRequest("HTTP/1.0 knows no chunked bodies.")
    keep_alive = b"close" not in connection and (not http10 or b"keep-alive" in connection)
    return RequestHead(
        method=line[1].decode("ascii"),
        target=line[2].decode("ascii"),
        headers=tuple(lines.headers),
        length=CHUNKED if codings else length,
        keep_alive=keep_alive,
        http10=http10,
        expects_continue=expects and not http10,
        websocket=websocket and b"upgrade" in connection and not http10,
    )


#: What becomes of an answer's header, by its name as it came, where llhttp took that for a name.
_PASSES: Final = 0
_STAYS: Final = 1
_IS_LENGTH: Final = 2
_IS_CONNECTION: Final = 3
_IS_CODING: Final = 4
_IS_CHUNKING: Final = 5
_IS_KIND: Final = 6
_IS_ODD: Final = 7

_answer_names: dict[bytes, int] = {}
_NAMES_KEPT: Final = 2048
_NAME_BYTES: Final = 64
_SPECIAL: Final[dict[bytes, int]] = {
    **dict.fromkeys(HOP_BY_HOP, _STAYS),
    b"content-length": _IS_LENGTH,
    b"connection": _IS_CONNECTION,
    b"content-encoding": _IS_CODING,
    b"content-type": _IS_KIND,
    b"transfer-encoding": _IS_CHUNKING,
    b"upgrade": _IS_ODD,
    b"close": _IS_ODD,  # as a word of Connection's it names a header, to `end_to_end`
}
_status_lines: dict[bytes, tuple[int, bytes]] = {}
_STATUS_LINES_KEPT: Final = 256
_STATUS_LINE_BYTES: Final = 64


def _learn_name(name: bytes, key: bytes) -> None:
    if name not in _answer_names and len(name) <= _NAME_BYTES:
        if len(_answer_names) >= _NAMES_KEPT:
            _answer_names.clear()
        _answer_names[name] = _SPECIAL.get(key, _PASSES)


def parse_answer_head(raw: bytes, *, request_method: str) -> AnswerHead:
    """Parse the head of a provider's answer, up to and with its empty line.

    Raises:
        UpstreamFault: it is not valid, or framed in a way that could be read in two ways.
    """
    return _read_answer_head(raw, request_method) or _parse_answer_head(raw, request_method)


def _read_answer_head(raw: bytes, request_method: str) -> AnswerHead | None:
    """A head as nearly every one is: of a status line and of names that were parsed before, written
    `Name: value`, and framed in the plainest way. None for all others, which are to be parsed."""
    first, *lines = raw[:-4].split(b"\r\n")
    status_line = _status_lines.get(first)
    if (
        status_line is None
        or raw[-4:] != b"\r\n\r\n"
        # nothing but text, and no CR or LF but where the lines end
        or raw.translate(None, _ANSWER_LINE_TEXT) != b"\r\n" * (len(lines) + 2)
        # no space around a value but the one before it
        or b":  " in raw
        or b" \r" in raw
        or b"\t" in raw
    ):
        return None
    status, reason = status_line
    length = UNTIL_CLOSE
    keep_alive = True
    framed = connected = False
    coding = kind_of_body = b""
    passing: list[tuple[bytes, bytes]] = []
    try:
        for line in lines:
            name, colon, value = line.partition(b": ")
            kind = _answer_names[name]
            if not colon:
                return None
            if kind != _PASSES:
                if kind == _IS_LENGTH:
                    if framed or not value.isdigit() or len(value) > _LENGTH_DIGITS:
                        return None
                    framed, length = True, int(value)
                elif kind == _IS_KIND:
                    kind_of_body = value
                elif kind == _IS_CODING:
                    if coding:
                        return None
                    coding = value
                elif kind == _IS_CONNECTION:
                    if connected:
                        return None
                    connected, keep_alive = True, _PLAIN_CONNECTION[value]
                    continue
                elif kind == _IS_CHUNKING:
                    if framed or value != b"chunked":
                        return None
                    framed, length = True, CHUNKED
                    continue
                elif kind == _IS_ODD:
                    return None
                else:
                    continue
            passing.append((name, value))
    except KeyError:
        return None
    if request_method == "HEAD" or status in (204, 304):
        length = 0
    return AnswerHead(
        status,
        reason,
        tuple(passing),
        length,
        keep_alive and length != UNTIL_CLOSE,
        coding,
        kind_of_body,
    )


#: Values of Connection that name no header, and whether it stays.
_PLAIN_CONNECTION: Final = {
    b"keep-alive": True,
    b"Keep-Alive": True,
    b"close": False,
    b"Close": False,
}


def _parse_answer_head(raw: bytes, request_method: str) -> AnswerHead:
    line = _STATUS_LINE.match(raw)
    if (
        line is None
        or _has_lone_cr_or_lf(raw)
        or _has_fold(raw)
        or raw.translate(None, _ANSWER_TEXT)
    ):
        raise UpstreamFault(
            "The provider's answer is not valid HTTP/1.1. Try again.",
            detail="its status line or a header is malformed",
        )
    lines = _Lines()
    status = int(line[2])
    try:
        httptools.HttpResponseParser(lines).feed_data(raw)
    except httptools.HttpParserUpgrade:
        pass  # a 101: the road judges it by what was asked for
    except httptools.HttpParserError as error:
        raise UpstreamFault(
            "The provider's answer is not valid HTTP/1.1. Try again.", detail=str(error)
        ) from None
    lengths: set[bytes] = set()
    chunked = False
    connection: set[bytes] = set()
    codings: list[bytes] = []
    kind = b""
    for name, value in lines.headers:
        key = name.lower()
        _learn_name(name, key)
        if key not in _OF_THE_ANSWER:
            continue
        if key == b"content-length":
            lengths.add(value)
        elif key == b"transfer-encoding":
            if chunked or value.lower() != b"chunked":
                raise UpstreamFault(
                    "The provider's answer has an unknown Transfer-Encoding. Try again.",
                    detail="a Transfer-Encoding other than one `chunked`",
                )
            chunked = True
        elif key == b"connection":
            connection.update(token.strip().lower() for token in value.split(b","))
        elif key == b"content-type":
            kind = value
        else:
            codings.append(value)
    if len(lengths) > 1 or (lengths and chunked) or not all(map(_LENGTH.fullmatch, lengths)):
        raise UpstreamFault(
            "The provider's answer gives its length in two ways. Try again.",
            detail="a Content-Length that is doubled, no number, or beside chunks",
        )
    http10 = line[1] == b"0"
    if not http10 and status >= 200 and line.end() <= _STATUS_LINE_BYTES:
        if len(_status_lines) >= _STATUS_LINES_KEPT:
            _status_lines.clear()
        _status_lines[raw[: line.end() - 2]] = (status, line[3] or b"")
    length = int(lengths.pop()) if lengths else CHUNKED if chunked else UNTIL_CLOSE
    if request_method == "HEAD" or status < 200 or status in (204, 304):
        length = 0
    headers = tuple(lines.headers)
    return AnswerHead(
        status=status,
        reason=line[3] or b"",
        headers=headers if status == 101 else end_to_end(headers),
        length=length,
        keep_alive=length != UNTIL_CLOSE
        and b"close" not in connection
        and (not http10 or b"keep-alive" in connection),
        coding=b", ".join(codings),
        kind=kind,
    )


def upstream_headers(
    headers: Headers, *, strip: frozenset[bytes], authority: str
) -> tuple[tuple[bytes, bytes], ...]:
    """What of a client's head goes to the provider, before the credential and the body's length.

    Names in `strip` are lower-case with `-` for `_`; they are compared likewise, since some servers
    read `X_Api_Key` as `X-Api-Key`.
    """
    fates = _fates_of(strip)
    kept = [(b"Host", authority.encode("ascii"))]
    dropped: set[bytes] = set()
    accepted = b""
    for pair in headers:
        name, value = pair
        fate = fates.get(name)
        if fate is None:
            fate = _judge_name(name, strip, fates)
        if fate == _KEEP:
            if _LOCAL_MARK not in value:  # wherever a client put it, it is not the provider's
                kept.append(pair)
        elif fate == _CONNECTION:
            tokens = (token.strip().lower() for token in value.split(b","))
            # what says how the body is to be read was judged with it, and goes with it
            dropped.update(token for token in tokens if not token.startswith(b"content-"))
        elif fate == _ACCEPT_ENCODING:
            accepted = value
    if dropped:
        kept[1:] = [pair for pair in kept[1:] if _normal(pair[0]) not in dropped]
    kept.append((b"Accept-Encoding", _readable(accepted)))
    return tuple(kept)


#: What becomes of a client's header, by its name.
_KEEP: Final = 0
_DROP: Final = 1
_CONNECTION: Final = 2
_ACCEPT_ENCODING: Final = 3

_fates: dict[frozenset[bytes], dict[bytes, int]] = {}
_STRIPS_KEPT: Final = 16
_FATES_KEPT: Final = 2048
_FATE_NAME_BYTES: Final = 64


def _fates_of(strip: frozenset[bytes]) -> dict[bytes, int]:
    """Names judged before, as they came, where these are stripped."""
    found = _fates.get(strip)
    if found is None:
        if len(_fates) >= _STRIPS_KEPT:  # of configurations long reloaded
            _fates.clear()
        found = _fates[strip] = {}
    return found


def _judge_name(name: bytes, strip: frozenset[bytes], fates: dict[bytes, int]) -> int:
    key = _normal(name)
    if name.lower() == b"connection":
        fate = _CONNECTION
    elif name.lower() == b"accept-encoding":
        fate = _ACCEPT_ENCODING
    elif (
        key in HOP_BY_HOP
        or key in _OURS
        or key in strip
        or key in _FORWARDING
        or key.startswith((b"x-forwarded", b"sec-websocket-"))
    ):
        fate = _DROP
    else:
        fate = _KEEP
    if len(fates) >= _FATES_KEPT:
        fates.clear()
    if len(name) <= _FATE_NAME_BYTES:
        fates[name] = fate
    return fate


def _normal(name: bytes) -> bytes:
    return name.lower().replace(b"_", b"-")


@lru_cache(maxsize=256)
def _readable(accept: bytes) -> bytes:
    """Of the client's Accept-Encoding what this proxy can read along, in the client's words."""
    kept = [
        part.strip()
        for part in accept.split(b",")
        if part.partition(b";")[0].strip().lower() in _READABLE_CODINGS
    ]
    return b", ".join(kept) or b"identity"


def write_request_head(method: str, target: str, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The head's bytes, up to and with its empty line."""
    return _head(f"{method} {target} HTTP/1.1".encode("ascii"), headers)


def write_answer_head(status: int, reason: bytes, headers: Headers) -> bytes:
    """The head's bytes, up to and with its empty line. Always HTTP/1.1 (RFC 9110 2.5)."""
    return _head(b"HTTP/1.1 %d %b" % (status, reason), headers)


def _head(first: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    lines = [name + b": " + value for name, value in headers]
    return b"\r\n".join((first, *lines, b"\r\n"))


def end_to_end(headers: Headers) -> Headers:
    """An answer's headers without those of the connection to the provider.

    The length stays, whatever Connection says of it, and stands once: the road frames by it.
    """
    dropped: set[bytes] = set()
    kept: list[tuple[bytes, bytes]] = []
    sized = False
    for pair in headers:
        name, value = pair
        key = name.lower()
        if key in HOP_BY_HOP:
            if key == b"connection":
                dropped.update(token.strip().lower() for token in value.split(b","))
            continue
        if key == b"content-length":
            if sized:
                continue
            sized = True
        kept.append(pair)
    dropped.discard(b"content-length")
    if dropped:
        kept = [pair for pair in kept if pair[0].lower() not in dropped]
    return tuple(kept)
