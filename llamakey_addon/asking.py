"""One request to a server of tokens, from a thread: verified as a provider is, bounded, through the
company's proxy where there is one. Redirects are not followed: a secret must not follow one.
"""

from __future__ import annotations

import base64
import http.client
import ssl
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import unquote, urlsplit

from llamakey_addon.config.addresses import AddressError, is_loopback, parse_origin
from llamakey_addon.credentials import MAKING_S, Ask, MakingFailed, Reply
from llamakey_addon.errors import ConfigError
from llamakey_addon.journey import Upstream
from llamakey_addon.trust import trust
from llamakey_addon.tunnel import proxy_for

_ANSWER_BYTES: Final = 1024 * 1024
_STEP_S: Final = MAKING_S / 2


def asker(configured: Callable[[], str | None]) -> Ask:
    """How this process asks; `configured` gives `upstream_proxy` as it is now."""

    def ask(
        method: str, url: str, headers: Mapping[str, str], body: bytes | None, *, ca: str
    ) -> Reply:
        upstream, target = _place(url)
        connection = _connection(upstream, ca, proxy_for(upstream, configured()))
        try:
            connection.request(method, target, body, dict(headers))
            answer = connection.getresponse()
            raw = answer.read(_ANSWER_BYTES + 1)
            if len(raw) > _ANSWER_BYTES:
                raise MakingFailed(f"{upstream.host} answered too much", passing=False)
            fields = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, fields, raw)
        except ssl.SSLCertVerificationError as error:
            raise MakingFailed(
                f"the certificate of {upstream.host} could not be verified "
                f"({error.verify_message}): a CA of your own is named by the provider's `ca`",
                passing=False,
            ) from None
        except (OSError, http.client.HTTPException) as error:
            what = getattr(error, "strerror", None) or type(error).__name__
            raise MakingFailed(
                f"{upstream.host} could not be reached ({what}): see to the network, or to "
                "upstream_proxy",
                passing=True,
            ) from None
        finally:
            connection.close()

    return ask


def _place(url: str) -> tuple[Upstream, str]:
    parts = urlsplit(url)
    try:
        upstream = parse_origin(f"{parts.scheme}://{parts.netloc}")
    except AddressError as error:
        raise MakingFailed(
            f"the token server's address can't be used: {error}", passing=False
        ) from (None)
    if not (upstream.tls or is_loopback(upstream.host)):
        raise MakingFailed(
            f"a secret would travel in clear to {upstream.origin}: use https://", passing=False
        )
    return upstream, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _connection(upstream: Upstream, ca: str, proxy: str | None) -> http.client.HTTPConnection:
    host, port = upstream.host, upstream.port
    if not upstream.tls:
        return http.client.HTTPConnection(host, port, timeout=_STEP_S)
    try:
        context = trust(ca)
    except ConfigError as error:
        raise MakingFailed(str(error), passing=False) from None
    if proxy is None:
        return http.client.HTTPSConnection(host, port, timeout=_STEP_S, context=context)
    parts = urlsplit(proxy)
    fields = {}
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        fields["Proxy-Authorization"] = f"Basic {base64.b64encode(pair).decode('ascii')}"
    connection = http.client.HTTPSConnection(
        parts.hostname or "", parts.port or 80, timeout=_STEP_S, context=context
    )
    connection.set_tunnel(host, port, fields)
    return connection
