"""Through the company's own HTTP proxy, by CONNECT, so that TLS reaches to the provider itself."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import urllib.request
from urllib.parse import unquote, urlsplit

from llamakey_addon import http1
from llamakey_addon.dial import Names, open_socket
from llamakey_addon.errors import ConfigError, Denied, UpstreamFault
from llamakey_addon.journey import Upstream


def proxy_for(upstream: Upstream, configured: str | None) -> str | None:
    """URL of the proxy for connections to `upstream`, or None for none.

    Arguments:
        configured: `upstream_proxy`; None reads HTTPS_PROXY and NO_PROXY, "" means none.
    """
    # A plain connection would show it the real key, and this machine is not behind it.
    if upstream.scheme == "http" or _is_this_machine(upstream.host):
        return None
    if configured is not None:
        return configured or None
    found = urllib.request.getproxies().get("https")
    if not found or urllib.request.proxy_bypass(f"{upstream.host}:{upstream.port}"):
        return None
    return found


def _is_this_machine(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Tunnel(asyncio.Protocol):
    """Waits for a proxy's answer to CONNECT, and for nothing more."""

    def __init__(self, answered: asyncio.Future[None]) -> None:
        self._answered = answered
        self._seen = bytearray()

    def data_received(self, data: bytes) -> None:
        self._seen += data
        end = http1.find_head_end(self._seen)
        if self._answered.done():
            return
        if end < 0 and len(self._seen) < 16384:
            return
        try:
            if end != len(self._seen):
                raise UpstreamFault("The company's proxy sent more than an answer to CONNECT.")
            head = http1.parse_answer_head(bytes(self._seen), request_method="CONNECT")
            if not 200 <= head.status < 300:
                raise UpstreamFault(
                    "The company's proxy refused the connection.",
                    setting="upstream_proxy",
                    detail=f"CONNECT was answered {head.status}",
                )
        except Denied as denied:
            self._answered.set_exception(denied)
        else:
            self._answered.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._answered.done():
            self._answered.set_exception(OSError("the company's proxy closed the connection"))


async def tunnel_through(proxy: str, upstream: Upstream, names: Names) -> asyncio.Transport:
    """A connection to `upstream` through the company's proxy, by CONNECT.

    Raises:
        ConfigError: the proxy's URL cannot be used.
        UpstreamFault: it refused.
    """
    parts = urlsplit(proxy)
    if parts.scheme != "http" or not parts.hostname:
        raise ConfigError("upstream_proxy (or HTTPS_PROXY) must be http://HOST:PORT")
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[None] = loop.create_future()
    sock = await open_socket(names, parts.hostname, parts.port or 80)
    try:
        transport, _ = await loop.create_connection(lambda: _Tunnel(answered), sock=sock)
    except BaseException:
        sock.close()
        raise
    host = f"[{upstream.host}]" if ":" in upstream.host else upstream.host
    target = f"{host}:{upstream.port}"
    headers: tuple[tuple[bytes, bytes], ...] = ((b"Host", target.encode("ascii")),)
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        headers += ((b"Proxy-Authorization", b"Basic " + base64.b64encode(pair)),)
    try:
        transport.write(http1.write_request_head("CONNECT", target, headers))
        await answered
    except BaseException:
        transport.abort()
        raise
    return transport
