"""Calls that the proxy answers itself: for a token, which SDKs want from somebody before they call.

What comes is a local key, or what was signed with a key file of ours; what goes out is a token
(`tokens.py`) for the provider whose server of tokens we stand in for. The catalogue says which
paths these are (`sign_in`), and which grants are known there:

    client-credentials   a form with the local key as client_secret            (Vectara)
    jwt-bearer           a form with an assertion signed by a key file         (Google)
    token-exchange       a form with the local key as subject_token            (Google)

And Google's metadata server, at the root of the proxy, where SDKs look for it. It asks for no key,
so it is off unless the owner names a local key for it (`metadata` of the provider), and then it
answers none but processes of the proxy's own user on this machine (the road asks its rim): those
could read the owner's llamakey_local.env as well. What a browser can be made to send is refused:
it can't set Metadata-Flavor for another origin, and a name that was rebound to this machine is no
loopback Host.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qs, urlsplit

from llamakey_addon import authenticate, keyfile, keys
from llamakey_addon.config.addresses import is_loopback
from llamakey_addon.errors import BadRequest, Denied, Forbidden, NotReady, Unauthenticated
from llamakey_addon.journey import Answer, Ask, Errand, Headers, Provider, Route
from llamakey_addon.store import Store, StoreError, UnknownKey
from llamakey_addon.tokens import LIVES_S, Tokens

BODY_BYTES: Final = 65536
_GRANTS: Final[Mapping[str, tuple[str, str]]] = {
    # grant_type → our word for it, and the field that shows the key
    "client_credentials": ("client-credentials", "client_secret"),
    "urn:ietf:params:oauth:grant-type:jwt-bearer": ("jwt-bearer", "assertion"),
    "urn:ietf:params:oauth:grant-type:token-exchange": ("token-exchange", "subject_token"),
}
_METADATA: Final = "/computeMetadata/v1"
_ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105  a name
_SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
_ACCOUNT: Final = re.compile(
    r"/instance/service-accounts/(?:default|[^/]+@llamakey\.invalid)(/.*)?"
)


def find(way: Route, ask: Ask) -> Errand | None:
    """The call for a token that a request is; None where it is none."""
    for call in way.provider.entry.sign_in:
        if call.path == way.path and ask.method == "POST":
            return Errand(ask, way.provider)
    return None


def perform(errand: Errand, content: bytes, store: Store, tokens: Tokens) -> Answer:
    """Answer a call. Raises Denied, in OAuth's own shape, or that of Google's metadata server."""
    try:
        if errand.metadata:
            return _metadata(errand, store, tokens)
        return _json(_granted(errand, content, store, tokens))
    except StoreError as error:
        raise NotReady(
            "The proxy can't look up keys at the moment. Try again soon; if it stays so, tell its "
            "owner.",
            detail=str(error),
        ) from error
    except Denied as denied:
        denied.envelope = denied.envelope or "oauth"
        raise


# --- grants ---------------------------------------------------------------------------------------


def _granted(errand: Errand, content: bytes, store: Store, tokens: Tokens) -> dict[str, object]:
    provider, now_s = errand.provider, time.time()
    form = _form(content)
    known = {grant for call in provider.entry.sign_in for grant in call.grants}
    grant, field = _GRANTS.get(form.get("grant_type", ""), ("", ""))
    if grant not in known:
        raise BadRequest(
            f"This grant_type is not known here; {provider.entry.name} takes "
            f"{', '.join(sorted(known))}."
        )
    shown = form.get(field, "")
    if not shown:
        raise BadRequest(f"The form has no {field}.")
    passage = errand.ask.passage
    tunnel = "" if passage is None else passage.key_id
    if tunnel and not _is_ours(shown, tokens, now_s):
        key_id = authenticate.by_id(tunnel, provider, store).id  # the tunnel has shown its key
    elif grant == "jwt-bearer":
        signed = keyfile.read(shown, tokens, now_s)
        if not signed.is_grant:
            raise Unauthenticated(
                "The assertion's audience is no token server. Let Google's SDK make it, from the "
                "key file that the proxy's owner gave you."
            )
        key_id = authenticate.by_id(signed.key_id, provider, store).id
    else:
        key_id = authenticate.by_text(shown, provider, store).id
    if tunnel and key_id != tunnel:
        raise Unauthenticated(
            "Two different LlamaKey keys came: one with the tunnel (the proxy's URL), another "
            "with this call for a token. Use one of them."
        )
    reply = _token(provider, key_id, tokens, now_s)
    if grant == "token-exchange":
        reply["issued_token_type"] = _ACCESS_TOKEN
    return reply


def _is_ours(shown: str, tokens: Tokens, now_s: float) -> bool:
    """Whether what a call shows says whose it is, or is a placeholder, or real."""
    if keyfile.looks_signed(shown):
        try:
            keyfile.read(shown, tokens, now_s)
        except Unauthenticated:
            return False
        return True
    return keys.looks_local(shown)


def _token(provider: Provider, key_id: str, tokens: Tokens, now_s: float) -> dict[str, object]:
    return {
        "access_token": tokens.issue(key_id, provider.id, now_s),
        "expires_in": LIVES_S,
        "token_type": "Bearer",
    }


def _form(content: bytes) -> dict[str, str]:
    try:
        fields = parse_qs(content.decode("ascii"), keep_blank_values=True, max_num_fields=32)
    except ValueError:
        raise BadRequest(
            "The body is no form. Send application/x-www-form-urlencoded, as OAuth 2 has it."
        ) from None
    if any(len(values) > 1 for values in fields.values()):
        raise BadRequest("The form has a field twice. Send it once.")
    return {name: values[0] for name, values in fields.items()}


# --- Google's metadata server ---------------------------------------------------------------------


def is_metadata(ask: Ask) -> bool:
    """Whether this is for Google's metadata server: by its path, or as the look whether it is
    there, which is for the root."""
    path = ask.target.partition("?")[0]
    if path == _METADATA or path.startswith(f"{_METADATA}/"):
        return True
    return path == "/" and ask.method == "GET" and _flavour(ask.headers)


def metadata(ask: Ask, providers: Mapping[str, Provider]) -> Errand:
    """Raises Denied: it is off, or this is not how an SDK asks."""
    provider = next((p for p in providers.values() if p.metadata), None)
    if provider is None:
        raise Forbidden(
            "This proxy is no metadata server. Its owner can switch that on for programs of their "
            "own on the same machine (`metadata`); else use a credentials file: "
            "`lmk env --for vertex` makes one.",
            setting="providers.vertex.metadata",
        )
    hosts = [value.decode("latin-1") for name, value in ask.headers if name.lower() == b"host"]
    host = urlsplit(f"//{hosts[0]}").hostname if hosts else ""
    forwarded = any(name.lower() in (b"x-forwarded-for", b"forwarded") for name, _ in ask.headers)
    if not _flavour(ask.headers) or forwarded or not is_loopback(host or ""):
        raise Forbidden(
            "A metadata server is asked with the header Metadata-Flavor: Google, on this machine, "
            "without a proxy between."
        )
    return Errand(ask, provider, metadata=True)


def _metadata(errand: Errand, store: Store, tokens: Tokens) -> Answer:
    provider = errand.provider
    try:
        row = store.find(provider.metadata)
    except UnknownKey:
        raise NotReady(
            f"There is no local key {provider.metadata!r}, which the metadata server is to stand "
            "for. The proxy's owner makes it: `lmk keys new NAME`.",
            setting=f"providers.{provider.id}.metadata",
        ) from None
    key_id = authenticate.by_id(row.id, provider, store).id
    path, _, query = errand.ask.target.partition("?")
    value = _value(path.removeprefix(_METADATA), query, provider, key_id, tokens)
    if value is None:
        raise _NotThere("The metadata server has nothing at this path.")
    if isinstance(value, str):
        return Answer(200, "OK", (*_MARKS, (b"Content-Type", b"application/text")), value.encode())
    return _json(value, _MARKS)


class _NotThere(BadRequest):
    status = 404
    code = "not_found"


_MARKS: Final[Headers] = ((b"Metadata-Flavor", b"Google"), (b"Server", b"Metadata Server for VM"))


def _value(
    path: str, query: str, provider: Provider, key_id: str, tokens: Tokens
) -> object | str | None:
    """What stands at a path below /computeMetadata/v1: an object as JSON, text as text."""
    recipe = provider.recipe
    project = "" if recipe is None else recipe.inputs.get("project", "")
    path = path.rstrip("/")
    account = _ACCOUNT.fullmatch(path)
    if account is not None:
        email = keyfile.email(key_id)
        whole = {"aliases": ["default"], "email": email, "scopes": [_SCOPE]}
        return {
            None: whole if "recursive=true" in query else "aliases\nemail\nscopes\ntoken\n",
            "/token": _token(provider, key_id, tokens, time.time()),
            "/email": email,
            "/scopes": _SCOPE,
        }.get(account[1])
    return {
        "": "instance/\nproject/\n",
        "/instance": "service-accounts/\n",
        "/instance/service-accounts": "default/\n",
        "/project/project-id": project or None,
        "/universe/universe-domain": "googleapis.com",
        "/universe/universe_domain": "googleapis.com",
    }.get(path)


def _flavour(headers: Headers) -> bool:
    return any(
        name.lower() == b"metadata-flavor" and value.strip() == b"Google" for name, value in headers
    )


def _json(value: object, more: Headers = ()) -> Answer:
    headers = ((b"Content-Type", b"application/json"), (b"Cache-Control", b"no-store"), *more)
    return Answer(200, "OK", headers, json.dumps(value).encode())
