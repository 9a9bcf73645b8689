"""Clients' connections as mitmproxy knows them, where its own server does not take them.

Made when somebody looks at a flow, or where a script has hooks of connections.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final

from mitmproxy import connection
from mitmproxy.proxy import mode_specs, server_hooks

from llamakey_addon.options import DEAD_MODE
from llamakey_addon.view.dispatch import call_all, handlers

if TYPE_CHECKING:
    import asyncio

    from mitmproxy.master import Master

logger = logging.getLogger("llamakey")

#: Hooks of connections that are called, and those that nobody calls without mitmproxy's server.
CALLED: Final = ("client_connected", "client_disconnected")
NOT_CALLED: Final = (
    "next_layer",
    "tls_clienthello",
    "tls_start_client",
    "tls_established_client",
    "tls_failed_client",
)
_MODE: Final = mode_specs.ProxyMode.parse(DEAD_MODE)


def make(transport: asyncio.Transport) -> connection.Client:
    """A client's connection, from its open transport."""
    info = transport.get_extra_info
    made = connection.Client(
        peername=info("peername")[:2],
        sockname=info("sockname")[:2],
        timestamp_start=time.time(),
        state=connection.ConnectionState.OPEN,
        proxy_mode=_MODE,
    )
    tls = info("ssl_object")
    if tls is not None:
        made.tls = True
        made.timestamp_tls_setup = made.timestamp_start
        made.tls_version = tls.version()
        made.cipher = (tls.cipher() or ("",))[0]
        chosen = tls.selected_alpn_protocol()
        made.alpn = None if chosen is None else chosen.encode("ascii")
    return made


class Greeter:
    """Calls the hooks of connections that scripts have.

    Arguments:
        ours: LlamaKey's own addon, which has such hooks for mitmproxy's server.
    """

    def __init__(self, master: Master, ours: object) -> None:
        self._master = master
        self._ours = ours
        self._ids: list[int] = []
        self._addons: list[Any] = []
        self._wanted = False

    @property
    def wanted(self) -> bool:
        """Whether anybody has such hooks; addons that come or go are noticed."""
        addons = self._master.addons.lookup.values()
        if list(map(id, addons)) != self._ids:
            self._addons = list(addons)  # kept, so that no other comes to have its id
            self._ids = list(map(id, self._addons))
            others = [addon for addon in self._addons if addon is not self._ours]
            self._wanted = any(any(handlers(addon, CALLED)) for addon in others)
            for addon in others:
                if lost := list(handlers(addon, NOT_CALLED)):
                    logger.warning(
                        "%s has hooks that lmk serve does not call: %s. They are called under "
                        "mitmdump -s.",
                        getattr(addon, "name", None) or getattr(addon, "__name__", addon),
                        ", ".join(lost),
                    )
        return self._wanted

    async def refuses(self, client: connection.Client) -> bool:
        """Tell that a client has come; whether somebody wants it gone (`client.error`)."""
        await call_all(self._master, server_hooks.ClientConnectedHook(client), but=self._ours)
        return bool(client.error)

    async def left(self, client: connection.Client) -> None:
        """Tell that it has gone."""
        client.state = connection.ConnectionState.CLOSED
        client.timestamp_end = time.time()
        if self.wanted:
            await call_all(
                self._master, server_hooks.ClientDisconnectedHook(client), but=self._ours
            )
