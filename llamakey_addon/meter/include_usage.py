"""OpenAI's streams say what was used only when they are asked: for callers with caps we ask, and
take what that adds out again.

    may_ask(endpoint, query)                    # whether such an endpoint can be asked at all
    content = with_usage(content, members)      # None: leave the request as it is
    strip = strip_for(status, headers)          # the filter of the answer to a changed request

Asked for, a stream has one event more, with empty `choices` and the figures, and `"usage":null` in
every other one (https://platform.openai.com/docs/api-reference/chat-streaming). The client gets
each byte that it would have got without, and no other. The meter is to read before the filter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import parse_qsl

from llamakey_addon.meter.events import KEPT_BYTES, data_of

if TYPE_CHECKING:
    from llamakey_addon.catalogue.models import Endpoint
    from llamakey_addon.journey import Headers

_SPACE: Final = re.compile(r"[ \t\n\r]*")
_ASK: Final = '"include_usage":true'


def may_ask(endpoint: Endpoint | None, query: str) -> bool:
    """Whether a stream of this endpoint says what it used when it is asked to.

    Arguments:
        query: of the request, without `?`: some versions of an API know the option, others not.
    """
    if endpoint is None or not endpoint.include_usage:
        return False
    if not endpoint.include_usage_since:
        return True
    asked = dict(parse_qsl(query, keep_blank_values=True))
    return all(asked.get(name, "") >= least for name, least in endpoint.include_usage_since.items())


def with_usage(content: bytes, members: Sequence[tuple[str, object]]) -> bytes | None:
    """The body of a request, changed so that its stream says what it used.

    None where it is to stay as it is: nothing is streamed, the client asks for usage itself, or the
    body could be read in two ways (a name that stands twice, an option that is no object). All
    bytes of the client's stay; only the option is put in.

    Arguments:
        content: a JSON object in UTF-8, without a Content-Encoding.
        members: the outermost ones, in their order, doubled names included; objects among them are
            pairs likewise.
    """
    streams = [value for name, value in members if name == "stream"]
    if len(streams) != 1 or streams[0] is not True:
        return None
    options = [value for name, value in members if name == "stream_options"]
    if not options:
        end = content.rindex(b"}")
        return b'%b,"stream_options":{%b}%b' % (content[:end], _ASK.encode(), content[end:])
    (option, *others) = options
    if others or (isinstance(option, list) and ("include_usage", True) in option):
        return None  # doubtful, or the client's own wish
    text = content.decode("utf-8")
    try:
        splice = _splice(text)
    except (ValueError, RecursionError):
        return None
    if splice is None:
        return None
    start, end, new = splice
    return (text[:start] + new + text[end:]).encode()


class _Member(NamedTuple):
    """One member of a JSON object, by where its value stands in the text."""

    name: str
    value: Any
    start: int
    end: int


def _members(text: str, at: int) -> tuple[list[_Member], int]:
    """The members of the object that begins at `at`, and where it ends. Raises ValueError."""
    decoder = json.JSONDecoder(parse_constant=_no_constant)
    members: list[_Member] = []
    if text[at : at + 1] != "{":
        raise ValueError("no object")
    at = _skip(text, at + 1)
    while text[at : at + 1] != "}":
        name, at = decoder.raw_decode(text, at)
        at = _skip(text, at)
        if not isinstance(name, str) or text[at : at + 1] != ":":
            raise ValueError("no member")
        start = _skip(text, at + 1)
        value, end = decoder.raw_decode(text, start)
        members.append(_Member(name, value, start, end))
        at = _skip(text, end)
        if text[at : at + 1] == ",":
            at = _skip(text, at + 1)
            if text[at : at + 1] == "}":
                raise ValueError("a comma before the end")
        elif text[at : at + 1] != "}":
            raise ValueError("no end")
    return members, at + 1


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _skip(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return at if space is None else space.end()


def _splice(text: str) -> tuple[int, int, str] | None:
    """From where to where a text is replaced that has the option, and by what."""
    members, end = _members(text, _skip(text, 0))
    if _skip(text, end) != len(text):
        return None
    (option,) = (member for member in members if member.name == "stream_options")
    if option.value is None:
        return option.start, option.end, f"{{{_ASK}}}"
    if not isinstance(option.value, dict):
        return None
    inner, _ = _members(text, option.start)
    asked = [member for member in inner if member.name == "include_usage"]
    if not asked:
        at = option.start + 1
        return at, at, f"{_ASK}," if inner else _ASK
    if len(asked) > 1 or not (asked[0].value is None or asked[0].value is False):
        return None
    return asked[0].start, asked[0].end, "true"


# --- the answer -----------------------------------------------------------------------------------


def strip_for(status: int, headers: Headers) -> Strip | None:
    """The filter for the answer to a request that was changed; None for one that is no stream."""
    kind = b""
    for name, value in headers:
        if name.lower() == b"content-type":
            kind = value.partition(b";")[0].strip().lower()
    return Strip() if 200 <= status < 300 and kind == b"text/event-stream" else None


# An event's end: after it, what came is complete. The two line ends may differ.
_END: Final = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r(?!\n))")
# `"usage":null` among members of which those behind it are plain values, up to the document's end:
# so it is the outermost object's own.
_PLAIN: Final = rb'(?:null|true|false|-?[0-9.eE+-]+|"(?:[^"\\\r\n]|\\.)*+")'
_USAGE: Final = re.compile(
    rb',[ ]*"usage"[ ]*:[ ]*null((?:[ ]*,[ ]*"[a-z_]+"[ ]*:[ ]*' + _PLAIN + rb")*[ ]*\}[ \t]*)$"
)
_ADDED: Final = b',"usage":null'
_BEHIND_IT: Final = re.compile(rb'(?:,"[a-z_]+":' + _PLAIN + rb")*\}")
_SOME_CHOICE: Final = re.compile(rb'"choices"\s*:\s*\[\s*[^\]\s]')
_BEGINS_USAGE: Final = re.compile(rb',\s*(?:"(?:u(?:s(?:a(?:g(?:e(?:".*)?)?)?)?)?)?)?$', re.DOTALL)


class Strip:
    """Takes out of a stream what `include_usage` adds, event by event.

    An event is held until it is complete, as the provider sends them whole. One of more than a
    mebibyte passes as it is. The stream must have no content-coding.
    """

    __slots__ = ("_held", "_long")

    whole = False
    """What may pass passes at once."""
    changes = True

    def __init__(self) -> None:
        self._held = b""
        self._long = False

    def feed(self, piece: bytes) -> bytes:
        """What may pass now."""
        if not (self._held or self._long) and piece.endswith(b"\n\n") and piece.find(b"\r") < 0:
            # as nearly every piece is: whole events to which nothing was added, or one with null
            if piece.find(b'"usage"') < 0:
                return piece
            if (short := _without_plain_null(piece)) is not None:
                return short
        data = self._held + piece if self._held else piece
        seen = max(0, len(self._held) - 3)
        self._held = b""
        out: list[bytes] = []
        at = 0
        while True:
            # a CR at the very end may be half a line end
            end = _END.search(data, max(at, seen), len(data) - data.endswith(b"\r"))
            if end is None:
                break
            event = data[at : end.end()]
            at = end.end()
            out.append(event if self._long else stripped(event))
            self._long = False
        rest = data[at:]
        if self._long or len(rest) > KEPT_BYTES:
            # all but what could be the first half of its end
            keep = len(rest) - len(rest.rstrip(b"\r\n"))
            self._long = True
            out.append(rest[: len(rest) - keep])
            rest = rest[len(rest) - keep :]
        self._held = rest
        return b"".join(out)

    def end(self) -> bytes:
        """The rest, where the stream ended without a blank line: never more than a stream without
        usage would begin with."""
        held, self._held = self._held, b""
        if self._long or not held:
            return held
        if b"data: {".startswith(held):
            return b""
        data = data_of(held.replace(b"\r\n", b"\n").replace(b"\r", b"\n"))
        if not data.startswith(b"{") or _object(data) is not None:
            return stripped(held)
        # It breaks off midway. What might be the added event, or the added member, stays away.
        if not _SOME_CHOICE.search(held):
            return b""
        added = _BEGINS_USAGE.search(held)
        return held[: added.start()] if added else held


def _without_plain_null(event: bytes) -> bytes | None:
    """An event of one line without `"usage":null`, as OpenAI adds it; None for any other."""
    at = event.find(_ADDED)
    rest, last = at + len(_ADDED), len(event) - 2
    if at < 0 or event.find(b"\n") != last or event.count(b'"usage"') != 1:
        return None
    return event[:at] + event[rest:] if _BEHIND_IT.fullmatch(event, rest, last) else None


def stripped(event: bytes) -> bytes:
    """One event with its line ends, as it would have been without `include_usage`."""
    if b'"usage"' not in event:
        return event
    if b"\n" not in event.rstrip(b"\r\n") and b"\r" not in event.rstrip(b"\r\n"):
        line = event.rstrip(b"\r\n")
        found = _USAGE.search(line)
        if found is not None and line.count(b'"usage"') == 1:
            return line[: found.start()] + found[1] + event[len(line) :]
    data = data_of(event.replace(b"\r\n", b"\n").replace(b"\r", b"\n").rstrip(b"\n"))
    document = _object(data)
    if document is None or "usage" not in document:
        return event
    if isinstance(document["usage"], dict) and not document.get("choices"):
        return b""
    if document["usage"] is not None:
        return event
    return _without_null(event, document)


def _without_null(event: bytes, document: dict[str, Any]) -> bytes:
    """`event` without its outermost `"usage":null`, with one comma beside it. Anything else than
    that being changed, the event stays."""
    for match in re.finditer(rb'"usage"\s*:\s*null', event):
        before = re.search(rb",\s*$", event[: match.start()])
        after = re.match(rb"\s*,\s*", event[match.end() :])
        if before is not None:
            new = event[: before.start()] + event[match.end() :]
        elif after is not None:
            new = event[: match.start()] + event[match.end() + after.end() :]
        else:
            new = event[: match.start()] + event[match.end() :]
        data = data_of(new.replace(b"\r\n", b"\n").replace(b"\r", b"\n").rstrip(b"\n"))
        if _object(data) == {name: value for name, value in document.items() if name != "usage"}:
            return new
    return event


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None
