"""A denial as the provider itself would say it, so that each SDK raises its usual exception.

The shapes stand in `catalogue/envelopes.yaml`. A text says what happened, what to do, which
setting of the owner's decided it, whom to ask, and the request id under which the log has more.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING

from llamakey_addon.cutting import Stream
from llamakey_addon.errors import TooMany
from llamakey_addon.journey import Answer

if TYPE_CHECKING:
    from llamakey_addon.catalogue.models import Envelope
    from llamakey_addon.errors import Denied
    from llamakey_addon.journey import Provider

__all__ = ["answer", "event"]

#: For requests of no provider's: an unknown prefix, a head that cannot be read.
_NOBODYS = "plain"
_WORD = re.compile(r"\{[a-z]+\}")


def answer(
    denied: Denied,
    provider: Provider | None,
    request_id: str,
    contact: str,
    envelopes: Mapping[str, Envelope],
) -> Answer:
    """The answer that a denial becomes, without the framing of its body.

    Arguments:
        provider: whose envelope it wears; None for plain text.
        contact: whom to ask, as the owner wrote it; may be empty.
        envelopes: by name; holds `plain` and every provider's.
    """
    usual = provider.entry.envelope if provider is not None else _NOBODYS
    envelope = envelopes[denied.envelope or usual]
    body = _body(denied, envelope, request_id, contact)
    return Answer(
        status=denied.status,
        reason=_reason(denied.status),
        headers=tuple(
            (name.encode("ascii"), value.encode("ascii", "replace"))
            for name, value in _headers(denied, envelope, request_id)
        ),
        body=body.encode(),
    )


def event(
    denied: Denied,
    provider: Provider,
    stream: Stream,
    request_id: str,
    contact: str,
    envelopes: Mapping[str, Envelope],
) -> bytes:
    """The same within a stream that is ended by it: an event, or a line."""
    envelope = envelopes[provider.entry.envelope]
    body = _body(denied, envelope, request_id, contact)
    if stream == "ndjson":
        return f"{body}\n".encode()
    name = f"event: {envelope.stream_event}\n" if envelope.stream_event else ""
    return f"{name}data: {body}\n\n".encode()


def _body(denied: Denied, envelope: Envelope, request_id: str, contact: str) -> str:
    fill = _Fill(
        message=_message(denied, contact, request_id),
        code=denied.code,
        type=_type(envelope, denied.status),
        status=denied.status,
        id=request_id,
    )
    if isinstance(envelope.body, str):
        return fill.text(envelope.body)
    return json.dumps(fill.value(envelope.body), separators=(",", ":"))


def _headers(denied: Denied, envelope: Envelope, request_id: str) -> list[tuple[str, str]]:
    headers = [
        ("content-type", envelope.content_type),
        ("cache-control", "no-store"),
        ("x-llamakey-request-id", request_id),
    ]
    if not denied.passing:
        # The SDKs of OpenAI, Anthropic and their kin repeat 408, 409, 429 and every 5xx by
        # themselves, unless told that it is of no use.
        headers.append(("x-should-retry", "false"))
    if denied.status == HTTPStatus.UNAUTHORIZED:
        headers.append(("www-authenticate", 'Bearer realm="LlamaKey"'))
    headers += denied.headers
    if isinstance(denied, TooMany):
        headers += _limit(denied, envelope)
    return headers


def _limit(denied: TooMany, envelope: Envelope) -> list[tuple[str, str]]:
    """What SDKs and agents read of a limit: when to try again, to the millisecond, and where the
    limit stands."""
    wait_s = max(0.0, denied.retry_after_s)
    headers = [("retry-after-ms", str(max(1, math.ceil(wait_s * 1000))))]
    if (rate := denied.rate) is not None:
        words = {
            "{unit}": rate.unit,
            "{limit}": str(rate.limit),
            "{remaining}": str(rate.remaining),
            "{reset}": _duration(rate.reset_s),
            "{reset_at}": datetime.fromtimestamp(
                math.ceil(time.time() + rate.reset_s), UTC
            ).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        for name, value in envelope.limits.items():
            headers.append((name.replace("{unit}", rate.unit), words[value]))
    return headers


def _duration(seconds: float) -> str:
    """As OpenAI writes it: `1.5s`, `6m0s`, `2h0m0s`."""
    hours, rest = divmod(math.ceil(seconds * 1000), 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    text = f"{rest / 1000:g}s"
    if minutes or hours:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text


def _message(denied: Denied, contact: str, request_id: str) -> str:
    parts = [denied.message.strip()]
    if denied.setting:
        parts.append(f"Setting: {denied.setting}.")
    if contact:
        parts.append(f"Ask {contact.rstrip('.')}.")
    parts.append(f"(LlamaKey request {request_id})")
    return " ".join(parts)


def _type(envelope: Envelope, status: int) -> str:
    """The provider's word for a status; of one that it does not name, that of its hundred."""
    types = envelope.types
    return types.get(status) or types.get(status // 100 * 100) or types.get(0) or ""


@lru_cache
def _reason(status: int) -> str:
    return HTTPStatus(status).phrase


class _Fill:
    """What stands for an envelope's placeholders."""

    __slots__ = ("_status", "_words")

    def __init__(self, *, message: str, code: str, type: str, status: int, id: str) -> None:
        self._status = status
        self._words = {
            "{message}": message,
            "{code}": code,
            "{type}": type,
            "{status}": str(status),
            "{id}": id,
        }

    def value(self, shape: object) -> object:
        """`shape` with its placeholders filled. A whole `{status}` is a number."""
        if isinstance(shape, str):
            return self._status if shape == "{status}" else self.text(shape)
        if isinstance(shape, Mapping):
            return {key: self.value(inner) for key, inner in shape.items()}
        if isinstance(shape, list):
            return [self.value(inner) for inner in shape]
        return shape

    def text(self, shape: str) -> str:
        # In one go: what a message holds is not read for placeholders.
        return _WORD.sub(lambda word: self._words.get(word[0], word[0]), shape)
