"""The mitmproxy addon: puts the road behind every client connection, and minds the options.

It holds nothing of a request. What must outlive a reload of the script stands in the `House`, which
is kept with the master.
"""

from __future__ import annotations

import asyncio
import io
import logging
import os
import signal
from collections.abc import Awaitable
from collections.abc import Set as AbstractSet
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO, cast

from mitmproxy import ctx, exceptions
from mitmproxy.proxy import commands, events, layer, layers
from mitmproxy.proxy.layers import modes
from mitmproxy.proxy.mode_specs import ProxyMode, ReverseMode

from llamakey_addon import certificates, options, store
from llamakey_addon.changes import Changes
from llamakey_addon.config import Settings, Tls
from llamakey_addon.config.addresses import is_loopback
from llamakey_addon.errors import ConfigError
from llamakey_addon.house import House
from llamakey_addon.journal import Journal
from llamakey_addon.layer import RoadLayer

if TYPE_CHECKING:
    from mitmproxy.addonmanager import Loader
    from mitmproxy.connection import Client
    from mitmproxy.master import Master
    from mitmproxy.tls import ClientHelloData, TlsData

logger = logging.getLogger("llamakey")

_HOUSE: Final = "_llamakey_house"
_WATCHED: Final = "_llamakey_watched"
_PROXYSERVER_LOG: Final = logging.getLogger("mitmproxy.addons.proxyserver")
_CONNECTION_HOOKS: Final = frozenset(
    {
        "client_connected",
        "client_disconnected",
        "next_layer",
        "tls_clienthello",
        "tls_start_client",
        "tls_established_client",
        "tls_failed_client",
    }
)
#: Over mitmproxy's own time-out, which knows nothing of a WebSocket that may be silent for as long
#: as it likes. Everything else has a bound of ours (`limits`).
_NEVER_S: Final = 10**8
_OUT_OF_CHAIN: Final = "its addon is not loaded (see the log)"


class LlamaKey:
    """The addon. Without arguments it reads its settings when mitmproxy starts it; `lmk serve`
    hands it the house that it has built already, and takes clients' connections itself.
    """

    name = "llamakey"

    def __init__(self, house: House | None = None) -> None:
        self._given = house
        self._tls: Any = None
        self._late = False

    # ── life ──────────────────────────────────────────────────────────────────────────────────

    @property
    def house(self) -> House:
        house: House | None = getattr(ctx.master, _HOUSE, None)
        if house is None:
            raise exceptions.OptionsError("LlamaKey is not loaded")
        return house

    def load(self, loader: Loader) -> None:
        loader.add_option(
            "lmk_config", str, "", "LlamaKey's config.yaml; empty: ./config.yaml where it is there."
        )
        master = loader.master
        if getattr(master, _HOUSE, None) is None:
            setattr(master, _HOUSE, self._given or _build())
        self.house.gate.shut = _OUT_OF_CHAIN
        _replace_replay(master, self.house)
        _guard_connection_hooks(master)
        self._make_safe()

    def configure(self, updated: AbstractSet[str]) -> None:
        house = self.house
        why = options.refusal(_values()) or self._exposure()
        if why:
            house.gate.shut = why
            raise exceptions.OptionsError(why)
        house.gate.shut = ""
        self._look_again()

    def running(self) -> Awaitable[None]:
        # Awaited at a start and not at a reload of the script, where mitmproxy refuses coroutines.
        return asyncio.ensure_future(self._running())

    async def _running(self) -> None:
        # A chain built in code fires no `configure`, so the options are judged here too.
        self.configure(frozenset())
        for handler in logging.getLogger().handlers:
            handler.addFilter(self.house.scrub_record)
        await self._serve_in_our_mode()
        self._look_again()
        if self._given is None:  # else `lmk serve` says when, and looks for itself
            self.house.open_ahead()
            self._watch()

    def done(self) -> Awaitable[None] | None:
        """Out of the chain: by a reload of the script, or because mitmproxy ends, which waits."""
        house = self.house
        if ctx.master.should_exit.is_set():
            return asyncio.ensure_future(house.end())
        house.gate.shut = _OUT_OF_CHAIN
        return None

    # ── connections ───────────────────────────────────────────────────────────────────────────

    def client_connected(self, client: Client) -> None:
        house = self.house
        try:
            if why := house.admit_connection(client.id, client.peername[0]):
                client.error = why
                house.journal.note(f"connection refused: {why}")
                return
            # mitmproxy asks for a layer only at the first byte: who never sends one is timed here
            house.silent[client.id] = asyncio.get_running_loop().call_later(
                house.settings.limits.head_timeout_s, self._silent, client
            )
        except BaseException as error:
            client.error = "the proxy failed"
            house.gate.book.alarm(error)

    def client_disconnected(self, client: Client) -> None:
        house = self.house
        try:
            house.heard(client.id)
            house.release_connection(client.id)
        except BaseException as error:
            house.gate.book.alarm(error)

    def next_layer(self, nextlayer: layer.NextLayer) -> None:
        """Our road, whatever others have chosen; and if that fails, nothing at all."""
        try:
            nextlayer.layer = self._choose(nextlayer)
        except BaseException as error:
            self.house.gate.book.alarm(error)
            nextlayer.layer = _Nothing(nextlayer.context)

    def tls_clienthello(self, hello: ClientHelloData) -> None:
        hello.establish_server_tls_first = False

    def tls_start_client(self, start: TlsData) -> None:
        if self._tls is not None:
            from OpenSSL import SSL

            start.ssl_conn = SSL.Connection(self._tls)
            start.ssl_conn.set_accept_state()

    # ── inner ─────────────────────────────────────────────────────────────────────────────────

    def _make_safe(self) -> None:
        """Options that LlamaKey needs, where the user has not said otherwise."""
        opts, settings = ctx.options, self.house.settings
        known = opts.keys()
        wanted: dict[str, Any] = {"tcp_timeout": max(opts.tcp_timeout, _NEVER_S)}
        if list(opts.mode) == ["regular"]:
            wanted["mode"] = [options.DEAD_MODE]
            _PROXYSERVER_LOG.addFilter(_of_our_mode)
        if not opts.listen_host:
            wanted["listen_host"] = settings.listen.host
        if opts.listen_port is None:
            wanted["listen_port"] = settings.listen.port
        server = ctx.master.addons.get("proxyserver")
        # What is open, or about to be, was told another address.
        self._late = server is not None and len(server.servers) > 0 and len(wanted) > 1
        if "connection_strategy" in known and opts.connection_strategy == "eager":
            wanted["connection_strategy"] = "lazy"
        if "onboarding" in known and not opts.has_changed("onboarding"):
            wanted["onboarding"] = False
        opts.update(**wanted)
        if settings.door.open and self._given is None:
            logger.warning("LlamaKey: door: the second door is opened by lmk serve alone")
        if settings.tls is not None:
            if settings.tls.own and (
                warning := certificates.refresh(certificates.place_in(settings.data_folder))
            ):
                logger.warning("LlamaKey: %s", warning)
            self._tls = _server_tls(settings.tls.cert, settings.tls.key)

    async def _serve_in_our_mode(self) -> None:
        """mitmproxy opens its sockets a moment before it loads a script: open them anew.

        Whether that first port could be had makes no difference, so it is no error either.
        """
        _PROXYSERVER_LOG.removeFilter(_of_our_mode)
        server = ctx.master.addons.get("proxyserver")
        if server is None:
            return
        for mode, instance in list(server.servers._instances.items()):
            if self._late or not options.is_ours(mode.full_spec):
                if instance.is_running:
                    await instance.stop()
                del server.servers._instances[mode]
        self._late = False
        await server.setup_servers()  # opens what is not open

    def _watch(self) -> None:
        """From now on, take changes of config.yaml; at most once a process."""
        master, house = ctx.master, self.house
        if getattr(master, _WATCHED, False):
            return  # the script was loaded again
        setattr(master, _WATCHED, True)
        path = Path(ctx.options.lmk_config) if ctx.options.lmk_config else None
        assert isinstance(house.journal, Journal)
        changes = Changes(path, house.settings, house.journal, _check_tls)

        def take(settings: Settings) -> None:
            ours: LlamaKey | None = master.addons.get("llamakey")
            if ours is not None:
                ours.take(settings)
            else:
                house.reload(settings)  # the addon takes the rest when it is back

        house.spawn(changes.watch(take))
        if master.addons.get("consoleaddon") is not None:
            return  # whose terminal has gone, ends
        with suppress(AttributeError, NotImplementedError, RuntimeError, ValueError):
            asyncio.get_running_loop().add_signal_handler(
                signal.SIGHUP, lambda: house.spawn(changes.reload("SIGHUP", take))
            )

    def take(self, settings: Settings) -> None:
        """Serve by these settings from the next request on. Raises ConfigError."""
        if why := self._exposure(settings):
            raise ConfigError(why)
        if settings.tls is None:
            self._tls = None
        else:
            _check_tls(settings.tls)
            self._tls = _server_tls(settings.tls.cert, settings.tls.key)
        self.house.reload(settings)

    def _exposure(self, settings: Settings | None = None) -> str:
        """Why the address that options name is not listened on, or ""."""
        settings = settings or self.house.settings
        if settings.tls is not None or settings.allow_plain:
            return ""
        for text in ctx.options.mode:
            mode = ProxyMode.parse(text)
            host = mode.listen_host(ctx.options.listen_host)
            if not is_loopback(host):
                where = host or "every address"
                return (
                    f"LlamaKey does not listen on {where} without TLS: local keys would cross the "
                    "network in clear. Set tls (or allow_plain: true) in LlamaKey's config.yaml."
                )
        return ""

    def _look_again(self) -> None:
        """Does anybody look at flows? Asked when options change and when addons have started."""
        from llamakey_addon.view.flows import watcher_for

        self.house.watcher = watcher_for(ctx.master, self.house)

    def _choose(self, nextlayer: layer.NextLayer) -> layer.Layer:
        context = nextlayer.context
        if not isinstance(context.client.proxy_mode, ReverseMode):
            return _Nothing(context)
        stack = context.layers
        if self._tls is not None and len(stack) == 1:
            data = nextlayer.data_client()
            if data[:1] == b"\x16":
                return layers.ClientTLSLayer(context)
            if data and not self.house.may_be_plain(context.client.sockname[0]):
                return _PlainOnTls(context)
        if not isinstance(stack[0], modes.ReverseProxy):
            return _Nothing(context)
        handler = ctx.master.addons.get("proxyserver").connections[context.client.id]
        self.house.heard(context.client.id)
        return RoadLayer(context, self.house, handler)

    def _silent(self, client: Client) -> None:
        """A connection on which nothing was ever sent."""
        self.house.heard(client.id)
        handler = ctx.master.addons.get("proxyserver").connections.get(client.id)
        streams = None if handler is None else handler.transports.get(client)
        if streams is not None and streams.handler is not None:
            streams.handler.cancel("no request came")


def _guard_connection_hooks(master: Any) -> None:
    """In the hooks of connections, other addons' SystemExit and the like are errors, no more:
    mitmproxy lets them end the process, or leave a client hanging."""
    addons = master.addons
    inner = addons.invoke_addon
    if getattr(inner, "guards", False):
        return

    async def invoke_addon(addon: Any, event: Any) -> None:
        try:
            await inner(addon, event)
        except Exception:
            raise  # mitmproxy logs it
        except BaseException as error:
            task = asyncio.current_task()
            if event.name not in _CONNECTION_HOOKS or (task is not None and task.cancelling()):
                raise
            raise RuntimeError(f"{type(error).__name__} in {event.name}: {error}") from None

    invoke_addon.guards = True  # type: ignore[attr-defined]
    addons.invoke_addon = invoke_addon


def _of_our_mode(record: logging.LogRecord) -> bool:
    """Drops the complaint that mitmproxy's own default port is taken: we do not want it."""
    return "HTTP(S) proxy failed to listen on *:8080" not in record.getMessage()


class _Nothing(layer.Layer):
    """Closes the connection."""

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        yield commands.CloseConnection(self.context.client)


class _PlainOnTls(layer.Layer):
    """A client that speaks plain HTTP to a port that speaks TLS."""

    ANSWER = (
        b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n"
        b"Content-Length: 44\r\n\r\nThis port speaks TLS: use an https:// URL.\r\n"
    )

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, events.DataReceived):
            yield commands.SendData(self.context.client, self.ANSWER)
            yield commands.CloseConnection(self.context.client)


def _replace_replay(master: Master, house: House) -> None:
    """Before mitmproxy's own can send anything: `-C` queues flows before this script is loaded."""
    from llamakey_addon.view.replay import install

    install(master, house)


def _values() -> dict[str, Any]:
    """The options' values by name."""
    return {name: getattr(ctx.options, name) for name in ctx.options.keys()}  # noqa: SIM118


def _check_tls(tls: Tls) -> None:
    """Raises ConfigError for a certificate that can't be served."""
    try:
        _server_tls(tls.cert, tls.key)
    except exceptions.OptionsError as error:
        raise ConfigError(str(error)) from None


def _server_tls(cert: Path, key: Path) -> Any:
    """What clients' TLS is answered with. HTTP/1.1 alone is offered.

    Raises:
        OptionsError: certificate or key cannot be used.
    """
    from OpenSSL import SSL

    def choose(_: SSL.Connection, offered: list[bytes]) -> Any:
        return b"http/1.1" if b"http/1.1" in offered else SSL.NO_OVERLAPPING_PROTOCOLS

    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    try:
        context.use_certificate_chain_file(os.fspath(cert))
        context.use_privatekey_file(os.fspath(key))
        context.check_privatekey()
    except SSL.Error as error:
        raise exceptions.OptionsError(
            f"tls: {cert} and {key} are not a PEM certificate and its key ({error})"
        ) from None
    context.set_alpn_select_callback(choose)
    return context


class _LogStream(io.TextIOBase):
    """mitmproxy's log as a stream, for the journal of a proxy that `lmk` did not start."""

    def isatty(self) -> bool:
        return False

    def write(self, text: str) -> int:
        for line in text.splitlines():
            logger.info(line)
        return len(text)


def _build() -> House:
    """Settings, store and journal for `mitmdump -s`.

    Raises:
        OptionsError: the configuration cannot be used; every fault stands in the log.
    """
    path = ctx.options.lmk_config if "lmk_config" in ctx.options.keys() else ""  # noqa: SIM118
    try:
        settings = Settings.load(Path(path) if path else None, os.environ)
        keys = store.open_store(settings.data_folder)
    except ConfigError as error:
        for fault in error.faults:
            logger.error("LlamaKey: %s", fault)
        raise exceptions.OptionsError("LlamaKey's configuration cannot be used") from None
    for warning in settings.warnings:
        logger.warning("LlamaKey: %s", warning)
    with suppress(Exception):
        ready = [p.id for p in settings.providers.values() if p.ready]
        logger.info("LlamaKey: providers ready: %s", ", ".join(ready) or "none")
    return House(settings, keys, Journal(settings, cast("TextIO", _LogStream())))
