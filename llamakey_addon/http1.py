"""HTTP/1.1 heads as this proxy reads and writes them. No I/O.

Theory of operation. llhttp (through httptools) parses the lines of a head, and is handed exactly
one head at a time, because it tells neither where a message ended nor lets the answer to a HEAD
end. What it lets pass and we do not (other version words, two spaces, bytes that are no visible
text, a second Host, any coding but `chunked`) is refused here first, so that both ends of the
proxy read the same message. Bodies are `framing.py`'s.
"""

from __future__ import annotations

import re
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
    {b"content-length", b"transfer-encoding", b"connection", b"content-encoding"}
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
    length: int
    """Bytes of the body, CHUNKED, or UNTIL_CLOSE."""
    keep_alive: bool
    coding: bytes = b""
    """Content-Encoding, as it stands."""


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


def find_head_end(buffer: bytearray, start: int = 0) -> int:
    """Index after the empty line that ends a head, or -1. `start`: where the last search ended."""
    end = buffer.find(b"\r\n\r\n", max(0, start - 3))
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


#: Heads that were parsed, without the digits of their Content-Length: a client sends the same head
#: again and again, and only that differs.
_known_heads: dict[bytes, tuple[RequestHead, int]] = {}
_KNOWN_HEADS: Final = 512
_KNOWN_HEAD_BYTES: Final = 2048
_LENGTH_NAMES: Final = (b"\r\nContent-Length: ", b"\r\ncontent-length: ")


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
    key, digits = raw, b""
    for name in _LENGTH_NAMES:
        at = raw.find(name)
        if at >= 0:
            at += len(name)
            end = raw.find(b"\r\n", at)
            if end - at <= _LENGTH_DIGITS:
                key, digits = raw[:at] + raw[end:], raw[at:end]
            break
    found = _known_heads.get(key)
    if (
        found is None
        or len(found[0].headers) > head_fields
        or (digits and not digits.isdigit())
        or (found[1] >= 0 and not digits)  # an empty length: a known head's key looks so
    ):
        return _remember(key, digits, _parse_request_head(raw, head_fields))
    head, place = found
    if place < 0:
        return head
    known = head.headers
    assert isinstance(known, KnownHeaders)
    headers = KnownHeaders((*known[:place], (known[place][0], digits), *known[place + 1 :]))
    headers.known = known.known
    return RequestHead(
        method=head.method,
        target=head.target,
        headers=headers,
        length=int(digits),
        keep_alive=head.keep_alive,
        http10=head.http10,
        expects_continue=head.expects_continue,
        websocket=head.websocket,
    )


def _remember(key: bytes, digits: bytes, head: RequestHead) -> RequestHead:
    """A head that came for the first time, as it will be known."""
    if head.websocket:
        return head  # each has a key of its own, and none comes again
    if len(_known_heads) >= _KNOWN_HEADS:
        _known_heads.clear()
    headers = KnownHeaders(head.headers)
    headers.known = KnownHead(head.method, head.target, headers)
    head = replace(head, headers=headers)
    names = [name.lower() for name, _ in headers]
    _known_heads[key] = (head, names.index(b"content-length") if digits else -1)
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


def parse_answer_head(raw: bytes, *, request_method: str) -> AnswerHead:
    """Parse the head of a provider's answer, up to and with its empty line.

    Raises:
        UpstreamFault: it is not valid, or framed in a way that could be read in two ways.
    """
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
    for name, value in lines.headers:
        key = name.lower()
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
        else:
            codings.append(value)
    if len(lengths) > 1 or (lengths and chunked) or not all(map(_LENGTH.fullmatch, lengths)):
        raise UpstreamFault(
            "The provider's answer gives its length in two ways. Try again.",
            detail="a Content-Length that is doubled, no number, or beside chunks",
        )
    if request_method == "HEAD" or status < 200 or status in (204, 304):
        length = 0
    elif chunked:
        length = CHUNKED
    elif lengths:
        length = int(lengths.pop())
    else:
        length = UNTIL_CLOSE
    http10 = line[1] == b"0"
    return AnswerHead(
        status=status,
        reason=line[3] or b"",
        headers=tuple(lines.headers),
        length=length,
        keep_alive=length != UNTIL_CLOSE
        and b"close" not in connection
        and (not http10 or b"keep-alive" in connection),
        coding=b", ".join(codings),
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


def write_request_head(method: str, target: str, headers: Headers) -> bytes:
    """The head's bytes, up to and with its empty line."""
    return _head(f"{method} {target} HTTP/1.1".encode("ascii"), headers)


def write_answer_head(status: int, reason: bytes, headers: Headers) -> bytes:
    """The head's bytes, up to and with its empty line. Always HTTP/1.1 (RFC 9110 2.5)."""
    return _head(b"HTTP/1.1 %d %b" % (status, reason), headers)


def _head(first: bytes, headers: Headers) -> bytes:
    lines = [first]
    lines += [name + b": " + value for name, value in headers]
    lines.append(b"\r\n")
    return b"\r\n".join(lines)


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
