"""A denial as the provider itself would say it, so that each SDK raises its usual exception.

The shapes stand in `catalogue/envelopes.yaml`. A text says what happened, what to do, which
setting of the owner's decided it, whom to ask, and the request id under which the log has more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING

from llamakey_addon.journey import Answer

if TYPE_CHECKING:
    from llamakey_addon.catalogue.models import Envelope
    from llamakey_addon.errors import Denied
    from llamakey_addon.journey import Provider

__all__ = ["answer"]

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
    fill = _Fill(
        message=_message(denied, contact, request_id),
        code=denied.code,
        type=_type(envelope, denied.status),
        status=denied.status,
        id=request_id,
    )
    if isinstance(envelope.body, str):
        body = fill.text(envelope.body)
    else:
        body = json.dumps(fill.value(envelope.body), separators=(",", ":"))
    return Answer(
        status=denied.status,
        reason=_reason(denied.status),
        headers=tuple(
            (name.encode("ascii"), value.encode("ascii", "replace"))
            for name, value in _headers(denied, envelope, request_id)
        ),
        body=body.encode(),
    )


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
    return headers


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
