"""What a flow may show of a request, and the way back from an edited flow to a request.

Covered are: local keys wherever they stand; whatever else stands in a credential slot, since it may
be a real key that somebody sent by mistake; and our own real keys, if one comes from a client.
An edited request is read by the same strict parser as any other, so that no edit can smuggle
what a client could not send.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, unquote_plus

from llamakey_addon import handshake, http1
from llamakey_addon.errors import BadRequest
from llamakey_addon.keys import MARK, redact
from llamakey_addon.mask import forms_of, mask_all

if TYPE_CHECKING:
    from llamakey_addon.config import Limits, Settings
    from llamakey_addon.journey import Ask, Headers

_STARS: Final = b"***"
_MARK: Final = MARK.encode()
_LOCAL_KEY: Final = re.compile(rb"%b[0-9A-Za-z_-]+" % re.escape(_MARK))
_FRAMING: Final = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect"})


def reread(
    method: bytes, target: bytes, fields: Headers, host: bytes, limits: Limits
) -> http1.RequestHead:
    """The head of a flow's request, read as if a client had sent it. Framing is left out.

    Raises:
        BadRequest, HeadTooLarge, TargetTooLong: no client could send it.
    """
    if any(b"\r" in part or b"\n" in part for part in (method, target, *sum(fields, ()))):
        raise BadRequest("The edited request has a line break in its head. Take it out.")
    kept = [(b"Host", host), *(pair for pair in fields if pair[0].lower() not in _FRAMING)]
    return http1.parse_request_head(
        b"%b %b HTTP/1.1\r\n%b\r\n"
        % (method, target, b"".join(b"%b: %b\r\n" % pair for pair in kept)),
        head_bytes=limits.head_bytes,
        head_fields=limits.head_fields,
    )


def _host(ask: Ask) -> bytes:
    return next((value for name, value in ask.headers if name.lower() == b"host"), b"-")


def _real_keys(settings: Settings) -> tuple[bytes, ...]:
    """All spellings of our own real keys."""
    return tuple(
        form for provider in settings.providers.values() for form in forms_of(provider.secrets)
    )


class Cover:
    """One request as it is shown."""

    __slots__ = ("_ask", "_fields", "_forms", "_keys", "_real", "_settings", "headers", "target")

    def __init__(self, ask: Ask, settings: Settings) -> None:
        self._ask = ask
        self._settings = settings
        self._keys: dict[bytes, bytes] = {}  # covered → as it came
        self._fields: dict[tuple[bytes, bytes], bytes] = {}
        head = b"\n".join((ask.target.encode("latin-1"), *(value for _, value in ask.headers)))
        self._forms = _real_keys(settings)
        self._real = self._real_keys_in(head)
        self.target: bytes = self._cover_target(ask.target)
        self.headers: Headers = tuple((name, self._cover_field(name, v)) for name, v in ask.headers)

    def content(self, content: bytes) -> bytes:
        """A body as it is shown."""
        self._real = self._real_keys_in(content)
        return self._cover_text(content)

    def ask(
        self, method: bytes, target: bytes, fields: Headers, content: bytes | None
    ) -> tuple[Ask, bytes | None]:
        """The request that an edited flow stands for: what is covered is put back.

        Host and framing are the original's: an edit chooses neither the server nor the length.
        `content` is None while the body streams.

        Raises:
            BadRequest, HeadTooLarge, TargetTooLong: the edit makes no valid request.
        """
        ask = self._ask
        target = ask.target.encode("ascii") if target == self.target else self._uncover(target)
        back = tuple(
            (name, self._fields.get((name.lower(), value), value)) for name, value in fields
        )
        head = reread(method, target, back, _host(ask), self._settings.limits)
        if content is not None:
            content = self._uncover(content)
        return (
            replace(
                ask,
                method=head.method,
                target=head.target,
                headers=head.headers,
                websocket=head.websocket,
                body_length=ask.body_length if content is None else len(content),
            ),
            content,
        )

    # ── covering ──────────────────────────────────────────────────────────────────────────────

    def _cover_field(self, name: bytes, value: bytes) -> bytes:
        shown = self._cover_text(value)
        if name.lower() == handshake.PROTOCOL:
            shown = self._cover_subprotocols(shown)
        if name.lower().replace(b"_", b"-") in self._settings.slot_headers:
            # A scheme's word (`Bearer`) stays; of what follows, only a covered local key.
            words = shown.split(b" ")
            first = 1 if len(words) > 1 and words[0].isalpha() else 0
            shown = b" ".join(
                word if at < first or not word or _MARK in word else _STARS
                for at, word in enumerate(words)
            )
        if shown != value:
            self._fields[(name.lower(), shown)] = value
        return shown

    def _cover_subprotocols(self, shown: bytes) -> bytes:
        """Foreign keys among the words that a WebSocket's client offers."""
        words = [word.strip() for word in shown.split(b",")]
        for form in self._settings.subprotocols:
            for _, end, key in handshake.keys_in(words, form):
                if MARK not in key:
                    words[end - 1] = words[end - 1].removesuffix(key.encode("latin-1")) + _STARS
        return b", ".join(words)

    def _cover_target(self, target: str) -> bytes:
        path, mark, query = target.partition("?")
        if mark:
            query = "&".join(self._cover_parameter(pair) for pair in query.split("&"))
        return self._cover_text((path + mark + query).encode("latin-1"))

    def _cover_parameter(self, pair: str) -> str:
        name, equals, value = pair.partition("=")
        if not equals or unquote_plus(name).lower() not in self._settings.query_keys:
            return pair
        if MARK in value:
            return pair  # covered with the rest of the target
        plain = unquote(value)
        if MARK in plain:
            return name + equals + redact(plain.encode("utf-8", "replace")).decode("latin-1")
        return name + equals + _STARS.decode()

    def _cover_text(self, text: bytes) -> bytes:
        if _MARK in text:
            for found in set(_LOCAL_KEY.findall(text)):
                covered = redact(found)
                if covered != found:
                    self._keys.setdefault(covered, found)
            text = redact(text)
        return mask_all(text, self._real)

    def _real_keys_in(self, text: bytes) -> tuple[bytes, ...]:
        """Nearly always none."""
        return tuple(form for form in self._forms if form in text)

    def _uncover(self, text: bytes) -> bytes:
        for covered, found in self._keys.items():
            text = text.replace(covered, found)
        return text
