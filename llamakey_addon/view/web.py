"""mitmweb beside the proxy, for `lmk serve --web`.

Its page can look, hold, edit, resume, kill and replay, and nothing else. mitmweb as it is can also
run commands and set options, which is to run code as the owner and to turn every check off; so each
of its addresses is either in the table here or refused, and of options and commands only those that
change what is shown. It listens on loopback alone, wants a token, and answers to no other Host than
its own, so that no other site's page can reach it by a name that it points here (DNS rebinding).
"""

from __future__ import annotations

import errno
import hmac
import logging
import os
import re
import secrets
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import tornado.httpserver
import tornado.netutil
import tornado.web
from mitmproxy import optmanager
from mitmproxy.addons import clientplayback, eventstore, export, intercept, proxyserver
from mitmproxy.addons.view import View
from mitmproxy.log import LogEntry
from mitmproxy.tools.web import app
from mitmproxy.tools.web.master import WebMaster

from llamakey_addon.errors import ConfigError
from llamakey_addon.keys import redact

if TYPE_CHECKING:
    from mitmproxy.addonmanager import Loader
    from mitmproxy.master import Master
    from tornado.httputil import HTTPServerRequest

    from llamakey_addon.config import Settings

_HOST: Final = "127.0.0.1"
URL_FILE: Final = "mitmweb.url"
"""In the data folder: the page's address with its token."""

#: Options that the page may change: they choose what is held and how things are shown.
CHANGEABLE: Final = frozenset(
    {
        "intercept",
        "intercept_active",
        "view_filter",
        "view_order",
        "view_order_reversed",
        "console_focus_follow",
        "content_view_lines_cutoff",
        "showhost",
        "web_columns",
    }
)
#: Options that it may read besides.
_READABLE: Final = CHANGEABLE | {"mode", "listen_host", "listen_port", "server", "web_port"}
#: Commands that it may run. `export` makes a text of a flow; there is no key in one.
RUNNABLE: Final = frozenset({"export"})

_LOGS: Final = ("tornado.access", "tornado.application", "tornado.general")

_FLOW = r"/flows/(?P<flow_id>[0-9a-f\-]+)"
_MESSAGE = r"/(?P<message>request|response|messages)"


@dataclass(frozen=True, slots=True)
class _Rule:
    """An address of mitmweb's that is served."""

    methods: tuple[str, ...]
    path: re.Pattern[str]
    handler: type[app.RequestHandler] | None = None
    """In mitmweb's place; None leaves it to mitmweb."""


class Web:
    """mitmweb's page for a master that is not mitmweb's own.

    Arguments:
        master: not yet running; `addons` belong before LlamaKey in its chain.

    Raises:
        ConfigError: the port is taken.
    """

    def __init__(self, master: Master, settings: Settings) -> None:
        self._settings = settings
        self._token = secrets.token_urlsafe(24)
        self._sockets = _bind(settings.view.web_port)
        self.port: int = self._sockets[0].getsockname()[1]
        self._view = View()
        self._events = _Events()
        self._playback: Any = clientplayback.ClientPlayback()
        self._page = _Page(self)
        self._auth = _Auth(self._token, self.port)
        self._face = _Face(master, self._view, self._events, self._auth)
        self._server: tornado.httpserver.HTTPServer | None = None
        self._hides = _HidesToken(self._token)

    @property
    def addons(self) -> list[object]:
        """In the order in which they stand in mitmweb's chain."""
        return [
            export.Export(),
            self._playback,
            self._page,
            self._auth,
            intercept.Intercept(),
            self._view,
            self._events,
        ]

    @property
    def url(self) -> str:
        """The page's address, with its token."""
        return f"http://{_HOST}:{self.port}/?token={self._token}"

    def start(self) -> None:
        """Serve the page."""
        self._face.begin()
        for name in _LOGS:
            logging.getLogger(name).addFilter(self._hides)
        self._server = tornado.httpserver.HTTPServer(self._face.app, max_buffer_size=2**26)
        self._server.add_sockets(self._sockets)
        self._tell()

    def stop(self) -> None:
        """Serve it no more."""
        if self._server is not None:
            self._server.stop()
        for name in _LOGS:
            logging.getLogger(name).removeFilter(self._hides)
        for connection in set(app.ClientConnection.connections):
            connection.close()
        for each in self._sockets:
            each.close()
        self._url_file.unlink(missing_ok=True)

    @property
    def _url_file(self) -> Any:
        return self._settings.data_folder / URL_FILE

    def _tell(self) -> None:
        """The token is for the person who started this: on their terminal, else in a file."""
        beside = self._url_file.with_suffix(f".{os.getpid()}")
        with open(beside, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(f"{self.url}\n")
        os.replace(beside, self._url_file)
        if sys.stdout.isatty():
            sys.stdout.write(f"mitmweb: {self.url}\n")
        else:
            sys.stdout.write(f"mitmweb: port {self.port}, address with token in {self._url_file}\n")
        sys.stdout.flush()


class _HidesToken(logging.Filter):
    """tornado logs the addresses of requests that fail, and the token may stand in one."""

    def __init__(self, token: str) -> None:
        super().__init__()
        self._token = token

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if self._token in text:
            record.msg, record.args = text.replace(self._token, "***"), ()
        return True


class _Page:
    """mitmproxy's addon for the page: its options, its start and its end."""

    name = "webaddon"

    def __init__(self, web: Web) -> None:
        self._web = web

    def load(self, loader: Loader) -> None:
        loader.add_option("web_port", int, self._web.port, "Port of the page.")
        loader.add_option(
            "web_columns",
            Sequence[str],
            ["tls", "icon", "path", "method", "status", "size", "time"],
            "Columns to show in the flow list.",
        )

    def running(self) -> None:
        self._web.start()

    def done(self) -> None:
        self._web.stop()


class _Events(eventstore.EventStore):
    """mitmproxy's log for the page, without local keys."""

    name = "eventstore"

    def _add_log(self, entry: LogEntry) -> None:
        super()._add_log(LogEntry(msg=redact(entry.msg), level=entry.level))


class _Face(WebMaster):
    """What mitmweb's handlers ask of their master; the master itself is another."""

    def __init__(
        self, master: Master, view: View, events: eventstore.EventStore, auth: _Auth
    ) -> None:
        # Not WebMaster's own: it would build a second chain of addons.
        self._master = master
        self.options = master.options
        self.commands = master.commands
        self.addons = master.addons
        self.view = view
        self.events = events
        self._auth = auth

    def begin(self) -> None:
        """Once the chain of addons stands."""
        view, events = self.view, self.events
        server = self.addons.get("proxyserver")
        assert isinstance(server, proxyserver.Proxyserver)
        self.proxyserver = server
        self.app = _Application(self, self._auth)
        view.sig_view_add.connect(self._sig_view_add)
        view.sig_view_remove.connect(self._sig_view_remove)
        view.sig_view_update.connect(self._sig_view_update)
        view.sig_view_refresh.connect(self._sig_view_refresh)
        events.sig_add.connect(self._sig_events_add)
        events.sig_refresh.connect(self._sig_events_refresh)
        self.options.changed.connect(self._sig_options_update)
        server.servers.changed.connect(self._sig_servers_changed)

    def _sig_options_update(self, updated: set[str]) -> None:
        super()._sig_options_update(updated & _READABLE)


class _Auth:
    """mitmweb's question who may look; it asks the addon of this name."""

    name = "webauth"

    def __init__(self, token: str, port: int) -> None:
        self._token = token.encode()
        self._port = port
        self.hosts = frozenset(f"{host}:{port}" for host in (_HOST, "localhost"))

    def auth_cookie_name(self) -> str:
        return f"llamakey-web-{self._port}"

    def is_valid_password(self, password: str) -> bool:
        return hmac.compare_digest(self._token, password.encode("utf-8", "replace"))


class _Application(app.Application):
    """mitmweb's application, less what is not in the table."""

    def __init__(self, face: _Face, auth: _Auth) -> None:
        self._auth = auth
        super().__init__(face, debug=False)
        self.settings["log_function"] = lambda handler: None

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> Any:
        host = request.host.lower()
        if host not in self._auth.hosts:
            return self._refuse(
                request, f"This page answers to {' and '.join(sorted(self._auth.hosts))} alone."
            )
        for rule in _SERVED:
            if request.method in rule.methods and (found := rule.path.fullmatch(request.path)):
                if rule.handler is None:
                    return super().find_handler(request, **kwargs)
                named = {name: value.encode() for name, value in found.groupdict().items()}
                return self.get_handler_delegate(request, rule.handler, path_kwargs=named)
        return self._refuse(
            request,
            "LlamaKey: this page looks, holds, edits and replays; it does nothing else. "
            "Use config.yaml and `lmk`, or your own mitmweb -s for all that mitmweb can.",
        )

    def _refuse(self, request: HTTPServerRequest, why: str) -> Any:
        return self.get_handler_delegate(request, _Refused, {"why": why})


class _Refused(tornado.web.RequestHandler):
    """403, with a plain word."""

    def initialize(self, why: str) -> None:
        self._why = why

    def check_xsrf_cookie(self) -> None:
        pass  # nothing is done here

    def prepare(self) -> None:
        self.set_status(403)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.set_header("X-Content-Type-Options", "nosniff")
        _ = self.finish(f"{self._why}\n")


class _Options(app.Options):
    """Options, as far as the page has to do with them."""

    def get(self) -> None:
        known = _READABLE & set(self.master.options.keys())
        self.write(optmanager.dump_dicts(self.master.options, known))

    def put(self) -> None:
        wanted = self.json
        if not isinstance(wanted, dict) or not CHANGEABLE.issuperset(wanted):
            names = ", ".join(sorted(set(wanted) - CHANGEABLE)) if isinstance(wanted, dict) else ""
            raise app.APIError(
                403,
                f"LlamaKey: {names or 'these options'} cannot be changed here; this page may set "
                f"{', '.join(sorted(CHANGEABLE))}.",
            )
        super().put()  # type: ignore[no-untyped-call]


class _Command(app.ExecuteCommand):
    """Commands that only show."""

    def post(self, cmd: str) -> None:
        if cmd not in RUNNABLE:
            raise app.APIError(
                403,
                f"LlamaKey: the command {cmd} cannot be run here; this page may run "
                f"{', '.join(sorted(RUNNABLE))}.",
            )
        super().post(cmd)


class _Clear(app.ClearAll):
    """Clear the list; requests that are held stay, or nobody could let them go."""

    def post(self) -> None:
        held = [flow for flow in self.view._store.values() if flow.intercepted]
        super().post()  # type: ignore[no-untyped-call]
        self.view.add(held)


def _rule(methods: str, path: str, handler: type[app.RequestHandler] | None = None) -> _Rule:
    return _Rule(tuple(methods.split()), re.compile(path), handler)


#: Everything that is served. Not here, so refused: uploading flows (POST /flows/dump), saving
#: options, the machine's processes and icons.
_SERVED: Final = (
    _rule("GET HEAD POST", r"/"),  # POST is the login
    _rule("GET HEAD", r"/static/.*|/favicon\.ico"),
    _rule("GET", r"/updates"),
    _rule("GET HEAD", r"/filter-help(?:\.json)?|/state(?:\.json)?|/events(?:\.json)?"),
    _rule("GET HEAD", r"/flows(?:\.json)?|/flows/dump"),
    _rule("GET HEAD", rf"{_FLOW}{_MESSAGE}/content\.data"),
    _rule("GET HEAD", rf"{_FLOW}{_MESSAGE}/content/[0-9a-zA-Z\-_%]+(?:\.json)?"),
    _rule("POST", rf"{_FLOW}/request/content\.data"),
    _rule("PUT DELETE", _FLOW),
    _rule("POST", rf"{_FLOW}/(?:resume|kill|duplicate|replay|revert)|/flows/(?:resume|kill)"),
    _rule("POST", r"/clear", _Clear),
    _rule("GET PUT", r"/options(?:\.json)?", _Options),
    _rule("GET HEAD", r"/commands(?:\.json)?"),
    _rule("POST", r"/commands/(?P<cmd>[a-z.]+)", _Command),
)


def _bind(port: int) -> list[socket.socket]:
    try:
        return tornado.netutil.bind_sockets(port, _HOST)
    except OSError as error:
        why = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be had ({error.strerror})"
        raise ConfigError(
            f"mitmweb's port {port} {why}: stop the other program, or set view.web_port in "
            "config.yaml (0 takes a free one)"
        ) from None
