"""Who asks: from the local key in a request's credential slots to a `User`.

The key counts only in a slot in which the provider's own SDKs put theirs. Other slots are looked at
for conflicts: a request with two different local keys could be booked to either.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import shlex
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import assert_never
from urllib.parse import parse_qsl, unquote

from llamakey_addon import forwarded, handshake, keyfile, keys, signature
from llamakey_addon.catalogue.models import Slot
from llamakey_addon.config import Settings
from llamakey_addon.config.words import folded
from llamakey_addon.errors import (
    BadRequest,
    ConfigError,
    Forbidden,
    NotReady,
    ProxyKeyWanted,
    Unauthenticated,
)
from llamakey_addon.journey import Ask, Provider, Route, User, Visit
from llamakey_addon.keys import Parsed
from llamakey_addon.store import KeyRow, Store, StoreError
from llamakey_addon.tokens import Tokens, looks_issued

_ENV_FILE = "llamakey_local.env"
_CANDIDATE = re.compile(rf"{keys.MARK}[A-Za-z0-9_-]*")
# Compared with when there is no such key, so that both answers take the same work.
_NO_DIGEST = bytes(32)


def who(
    ask: Ask, provider: Provider, store: Store, settings: Settings, tokens: Tokens | None = None
) -> User:
    """The owner of the local key that came with a request, or of the one that it is replayed as.

    Where it came by a signature of AWS's, that is verified apart (`signature.verify`), since it may
    cover the body. Without `tokens`, what is derived from a local key is not taken.

    Raises Unauthenticated, and NotReady when the store fails. Nothing of what was sent is in a
    message but a local key's id.
    """
    try:
        row = _key(ask, provider, store, settings, tokens)
    except StoreError as error:
        raise _no_lookup(error) from error
    return _user(row, settings)


def by_ticket(ask: Ask, way: Route, store: Store, settings: Settings, tokens: Tokens) -> User:
    """Whoever was given the address that a request follows. Where a key came with it, that must be
    one of the same user's. Raises as `who`."""
    provider = way.provider
    try:
        ticket = tokens.read_ticket(way.ticket, provider.id, way.named_target)
        if ticket is None or way.endpoint is None:
            raise Unauthenticated(
                "The ticket in this address is not for it. Follow an address as the answer named "
                "it, with nothing taken out or added."
            )
        row = _named(ticket.key_id, store, provider)
        in_tunnel = ask.passage is not None and ask.passage.key_id != ""
        if in_tunnel or any(_marked(ask, settings)):
            shown = _key(ask, provider, store, settings, tokens)
            if folded(shown.user) != folded(row.user):
                raise Unauthenticated(
                    "The address was given to another user than the one whose key came with this "
                    "request. Begin anew.",
                    detail=f"key {shown.id} with a ticket of key {row.id}",
                )
            row = shown
        elif ticket.ends_s <= time.time():
            raise Unauthenticated(
                "The ticket in this address has ended, as has what it leads to. Begin anew."
            )
        _check_place(row, ask)
    except StoreError as error:
        raise _no_lookup(error) from error
    return _user(row, settings)


def _user(row: KeyRow, settings: Settings) -> User:
    try:
        scope = settings.scope(row.scope, row.id) if row.scope else None
    except ConfigError as error:
        raise Forbidden(
            f"The scope of the key {keys.MARK}{row.id}-… can't be read, so nothing is allowed by "
            "it. Ask the proxy's owner for a new one.",
            detail=str(error),
        ) from None
    return User(
        name=row.user,
        key_id=row.id,
        key_name=row.name,
        policy=settings.policy(row.user),
        scope=scope,
    )


def anyone(ask: Ask, store: Store, settings: Settings) -> User:
    """The owner of the local key that came with a request to nobody but the proxy, in whichever
    slot any provider's SDK puts its key. Raises as `who`."""
    texts = {match for text in _everywhere(ask, settings) for match in _CANDIDATE.findall(text)}
    if len(texts) != 1:
        raise Unauthenticated(
            "Two different LlamaKey keys came with this request. Send one of them."
            if texts
            else "No LlamaKey key came with this request. Send yours as "
            "`Authorization: Bearer <key>`."
        )
    parsed = keys.parse(texts.pop())
    if parsed is None:
        raise _mistyped()
    try:
        row = _verified(parsed, store, None)
    except StoreError as error:
        raise _no_lookup(error) from error
    _check_place(row, ask)
    return _user(row, settings)


def at_the_door(ask: Ask, store: Store) -> KeyRow | None:
    """The local key that a CONNECT shows as proxy credentials, user or password; None where there
    are none.

    Raises ProxyKeyWanted, BadRequest, and NotReady when the store fails.
    """
    values = [value for name, value in ask.headers if name.lower() == b"proxy-authorization"]
    if not values:
        return None
    if len(values) > 1:
        raise BadRequest("Proxy-Authorization came more than once.")
    scheme, _, rest = values[0].decode("latin-1").strip().partition(" ")
    words = [rest.strip()]
    if scheme.lower() == "basic":
        try:
            words = base64.b64decode(rest.strip(), validate=True).decode().split(":", 1)
        except (binascii.Error, ValueError):
            words = []
    shown = {key for word in words if (key := keys.parse(unquote(word))) is not None}
    if len(shown) != 1:
        raise ProxyKeyWanted(
            "The proxy credentials hold two different LlamaKey keys. Keep one of them."
            if shown
            else "The proxy credentials hold no whole LlamaKey key. Put yours into the proxy's "
            "URL: http://key:<your key>@HOST:PORT, as `lmk run` does."
        )
    try:
        row = _verified(shown.pop(), store, None)
        _check_place(row, ask)
    except StoreError as error:
        raise _no_lookup(error) from error
    except Unauthenticated as denied:
        raise ProxyKeyWanted(denied.message, detail=denied.detail) from None
    return row


def still(visit: Visit, store: Store) -> None:
    """Raise Unauthenticated when the key has ceased to be valid since: while the body came, while
    a hook was held, while the answer streams."""
    try:
        _named(visit.user.key_id, store, visit.route.provider)
    except StoreError as error:
        raise _no_lookup(error) from error


def holder(key_id: str, store: Store, settings: Settings) -> User | None:
    """Whose key this is, for the log; None where the store can't tell."""
    try:
        row = store.key(key_id)
    except StoreError:
        return None
    return None if row is None else User(row.user, row.id, row.name, settings.policy(row.user))


def row_of(user: User, store: Store) -> KeyRow | None:
    """What the store has of the key that somebody showed; None where it can't tell."""
    try:
        return store.key(user.key_id)
    except StoreError:
        return None


def is_in_place(row: KeyRow, ask: Ask) -> bool:
    """Whether a key may be used from where the request comes."""
    return not row.networks or forwarded.is_within(ask.peer, _networks(row.networks))


def _no_lookup(error: StoreError) -> NotReady:
    return NotReady(
        "The proxy can't look up keys at the moment. Try again soon; if it stays so, tell its "
        "owner.",
        detail=str(error),
    )


def is_valid(key_id: str, store: Store) -> bool:
    """Whether a key that was valid still is; also where it can't be looked up."""
    try:
        row = store.key(key_id)
    except StoreError:
        return True
    return row is not None and row.ended(time.time()) is None


def _key(
    ask: Ask, provider: Provider, store: Store, settings: Settings, tokens: Tokens | None
) -> KeyRow:
    if ask.as_key:
        # From where it came was judged when it was first sent.
        return _named(ask.as_key, store, provider)
    passage = ask.passage
    if passage is not None and passage.key_id:
        row = _named(passage.key_id, store, provider)
        _check_same(row, ask, provider, settings, tokens)
    else:
        row = _shown_by(ask, provider, store, settings, tokens)
    _check_place(row, ask)
    return row


def _check_same(
    row: KeyRow, ask: Ask, provider: Provider, settings: Settings, tokens: Tokens | None
) -> None:
    """Raise where a request shows another local key than its tunnel. A placeholder is nothing, and
    a real key goes no further."""
    others = set()
    for text in {match for each in _marked(ask, settings) for match in _CANDIDATE.findall(each)}:
        if tokens is not None and looks_issued(text):
            token = tokens.read(text, provider.id)
            same = token is not None and token.key_id == row.id
        else:
            key = keys.parse(text)
            same = key is not None and hmac.compare_digest(key.digest, row.digest)
        if not same:
            others.add(keys.mask_local(text))
    if tokens is not None and _takes_signed_tokens(provider):
        for text in filter(keyfile.looks_signed, _in_slots(ask, provider.entry.credential.accept)):
            try:
                signed = keyfile.read(text, tokens, time.time())
            except Unauthenticated:
                continue  # nothing of ours
            if signed.key_id != row.id:
                others.add(f"a key file of {signed.key_id}")
    if others:
        raise Unauthenticated(
            "Two different LlamaKey keys came: one with the tunnel (the proxy's URL), another "
            "with this request. Use one of them.",
            detail=f"tunnel of {row.id}, request with {', '.join(sorted(others))}",
        )


def _check_place(row: KeyRow, ask: Ask) -> None:
    """Raise where a key may not be used from the client's address."""
    if not is_in_place(row, ask):
        raise Unauthenticated(
            f"The key {keys.MARK}{row.id}-… may not be used from {ask.peer}. Call from where it is "
            "meant for, or ask the proxy's owner for a key of this place "
            "(`lmk keys new NAME --from …`).",
            detail=f"key {row.id} ({row.name}) is for {', '.join(row.networks)} alone",
        )


def _shown_by(
    ask: Ask, provider: Provider, store: Store, settings: Settings, tokens: Tokens | None
) -> KeyRow:
    """The key that a request shows, or that it shows to have by something derived from it."""
    known = ask.known
    sent: Parsed | None = None if known is None else known.recall("key", settings)
    if sent is not None:
        return _verified(sent, store, provider)
    in_slots = list(_in_slots(ask, provider.entry.credential.accept))
    texts = {text for text in in_slots if keys.looks_local(text)}
    everywhere = {match for text in _marked(ask, settings) for match in _CANDIDATE.findall(text)}
    if len(everywhere) > 1:
        raise Unauthenticated(
            "Two different LlamaKey keys came with this request. Send one of them: look for a "
            "second key in the SDK's default headers, or in the URL.",
            detail=f"keys {', '.join(sorted(map(keys.mask_local, everywhere)))}",
        )
    if not texts and tokens is not None and _takes_signed_tokens(provider):
        signed = next(filter(keyfile.looks_signed, in_slots), "")
        if signed:
            return _by_key_file(signed, provider, store, tokens)
    if not texts:
        raise _nothing_of_ours(ask, provider, settings, bool(in_slots), bool(everywhere))
    if tokens is not None and len(texts) == 1 and looks_issued(text := next(iter(texts))):
        return _by_token(text, provider, store, tokens)
    # Of one key there may be two forms, with and without the client's own prefix.
    parsed = {found for text in texts if (found := keys.parse(text)) is not None}
    if len(parsed) != 1:
        raise _mistyped()
    sent = parsed.pop()
    if known is not None:
        known.keep("key", settings, sent)
    return _verified(sent, store, provider)


def _mistyped() -> Unauthenticated:
    return Unauthenticated(
        "The LlamaKey key in this request is cut or mistyped: its checksum is wrong. "
        f"Copy it again, or `source {_ENV_FILE}`."
    )


def by_text(text: str, provider: Provider, store: Store) -> KeyRow:
    """The valid key that `text` is, wherever it stood. Raises Unauthenticated, StoreError."""
    parsed = keys.parse(text)
    if parsed is None:
        raise Unauthenticated("That is no LlamaKey key, or it is cut or mistyped. Copy it again.")
    return _verified(parsed, store, provider)


def by_id(key_id: str, provider: Provider, store: Store) -> KeyRow:
    """The valid key of this id, which has been proved otherwise. As `by_text`."""
    return _named(key_id, store, provider)


def _by_token(text: str, provider: Provider, store: Store, tokens: Tokens) -> KeyRow:
    token = tokens.read(text, provider.id)
    if token is None:
        raise Unauthenticated(
            "This proxy has not issued the token in this request, or for another provider. Get a "
            "new one: the SDK does so when it starts anew."
        )
    if token.ends_s <= time.time():
        raise Unauthenticated(
            "The token in this request has ended. SDKs get a new one by themselves; in a client of "
            "your own, ask for one again when it ends (`expires_in`)."
        )
    return _named(token.key_id, store, provider)


def _by_key_file(text: str, provider: Provider, store: Store, tokens: Tokens) -> KeyRow:
    signed = keyfile.read(text, tokens, time.time())
    if signed.is_grant:
        raise Unauthenticated(
            "The signed token in this request is for a token server. Exchange it there (the key "
            "file's token_uri), and send the access token that it gives."
        )
    return _named(signed.key_id, store, provider)


def _takes_signed_tokens(provider: Provider) -> bool:
    return any(slot.proof == "jwt" for slot in provider.entry.credential.accept)


@lru_cache(maxsize=1024)
def _networks(texts: tuple[str, ...]) -> tuple[IPv4Network | IPv6Network, ...]:
    """Networks as the store keeps them."""
    return tuple(map(ip_network, texts))


def _verified(key: Parsed, store: Store, provider: Provider | None) -> KeyRow:
    row = store.key(key.id)
    same = hmac.compare_digest(key.digest, row.digest if row is not None else _NO_DIGEST)
    if row is None or not same:
        raise Unauthenticated(
            f"This proxy does not know the key {keys.MARK}{key.id}-…. Ask its owner for one "
            f"(`lmk keys new NAME`), then set {_variable(provider)} to it.",
            detail=f"unknown key {key.id}" if row is None else f"wrong secret for key {key.id}",
        )
    return _living(row, provider)


def _named(key_id: str, store: Store, provider: Provider) -> KeyRow:
    """The key of a request that has proved it before."""
    row = store.key(key_id)
    if row is None:
        raise Unauthenticated(
            "The key that this request was made with is gone, so it can't be replayed. Send it "
            "again from the client.",
            detail=f"replay as unknown key {key_id}",
        )
    return _living(row, provider)


def _living(row: KeyRow, provider: Provider | None) -> KeyRow:
    ended = row.ended(time.time())
    if ended is None:
        return row
    shown, variable = f"The key {keys.MARK}{row.id}-…", _variable(provider)
    name = shlex.quote(row.name)
    match ended:
        case "revoked":
            message = (
                f"{shown} was revoked at {_minute(row.revoked_s)}. Ask the proxy's owner for a new "
                f"one (`lmk keys new NAME`), then set {variable} to it."
            )
        case "rotated":
            message = (
                f"{shown} was rotated at {_minute(row.rotated_s)}, and was valid beside the new "
                f"one until {_minute(row.retires_s)}. Set {variable} to the new key {row.name!r}; "
                f"if it is lost, the proxy's owner makes another (`lmk keys rotate {name}`)."
            )
        case "expired":
            message = (
                f"{shown} expired at {_minute(row.expires_s)}. Ask the proxy's owner for a new one "
                f"(`lmk keys rotate {name}`), then set {variable} to it."
            )
        case _:
            assert_never(ended)
    raise Unauthenticated(message, detail=f"{ended} key {row.id} ({row.name})")


def _minute(time_s: float | None) -> str:
    return datetime.fromtimestamp(time_s or 0, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _nothing_of_ours(
    ask: Ask, provider: Provider, settings: Settings, foreign: bool, elsewhere: bool
) -> Unauthenticated:
    name = provider.entry.name
    if elsewhere:
        accept = provider.entry.credential.accept
        slots = " or ".join(_shown(slot) for slot in accept if not slot.proof)
        return Unauthenticated(
            f"A LlamaKey key came in a place where {name}'s SDKs do not put theirs. "
            f"Send it as {slots}."
        )
    if foreign or any(_everywhere(ask, settings)):
        return Unauthenticated(
            "The key in this request is not a LlamaKey key; it was not sent on. If it is a real "
            f"key of {name}'s, keep it out of the client: set {_variable(provider)} to your local "
            f"key, as `source {_ENV_FILE}` does."
        )
    return Unauthenticated(
        f"No key came with this request. Set {_variable(provider)}=<your key>, as in {_ENV_FILE} "
        f"(`source {_ENV_FILE}`)."
    )


def _in_slots(ask: Ask, slots: tuple[Slot, ...]) -> Iterator[str]:
    """What stands in a provider's credential slots, less their scheme."""
    query = _query(ask) if any(slot.query for slot in slots) else []
    for slot in slots:
        if slot.query:
            yield from (value for name, value in query if name.lower() == slot.query.lower())
            continue
        if slot.subprotocol:
            yield from _in_subprotocols(ask, slot.subprotocol)
            continue
        if slot.proof == "sigv4":
            if signature.is_signed(ask) and (key := signature.key_in(ask)):
                yield key
            continue
        wanted = _normal((slot.header or "").encode())
        for name, raw in ask.headers:
            if _normal(name) != wanted:
                continue
            value = raw.decode("latin-1").strip(" \t")
            if not slot.scheme:
                if value and " " not in value:
                    yield value
                continue
            scheme, _, rest = value.partition(" ")
            if scheme.lower() == slot.scheme.lower() and rest.strip():
                yield rest.strip()


def _everywhere(ask: Ask, settings: Settings) -> Iterator[str]:
    """Whatever stands in any slot that any provider knows."""
    for name, value in ask.headers:
        if value and _normal(name) in settings.slot_headers:
            yield value.decode("latin-1")
    for form in settings.subprotocols:
        yield from _in_subprotocols(ask, form)
    for key, text in _query(ask):
        if text and key.lower() in settings.query_keys:
            yield text


def _marked(ask: Ask, settings: Settings) -> Iterator[str]:
    """Whatever may hold a local key, in a slot or not: any header, any parameter of a slot."""
    mark = keys.MARK.encode()
    for _, value in ask.headers:
        if mark in value:
            yield value.decode("latin-1")
    for key, text in _query(ask):
        if text and key.lower() in settings.query_keys:
            yield text


def _in_subprotocols(ask: Ask, form: str) -> Iterator[str]:
    if ask.websocket:
        for _, _, key in handshake.keys_in(handshake.protocols(ask.headers), form):
            yield key


def _query(ask: Ask) -> list[tuple[str, str]]:
    query = ask.target.partition("?")[2]
    return parse_qsl(query, keep_blank_values=True) if query else []


def _normal(name: bytes) -> bytes:
    return name.lower().replace(b"_", b"-")


def _shown(slot: Slot) -> str:
    if slot.query:
        return f"?{slot.query}=<key>"
    if slot.subprotocol:
        return f"the subprotocol {slot.subprotocol.replace('{key}', '<key>')}"
    return f"{slot.header}: {slot.scheme} <key>" if slot.scheme else f"{slot.header}: <key>"


def _variable(provider: Provider | None) -> str:
    """The client's variable for this provider's key, or what stands for it."""
    if provider is None:
        return "the client's variable"
    for client in provider.entry.clients:
        for name, value in client.env.items():
            if "{key}" in value:
                return name
    if provider.entry.key_env:
        return provider.entry.key_env[0]
    return _shown(provider.entry.credential.accept[0])
