"""What `view/` leans on in mitmproxy's inner API, by name; see tests/test_contract.py."""

from __future__ import annotations

import inspect
from dataclasses import fields

import pytest
from mitmproxy import addonmanager, connection, flow, hooks, http, options
from mitmproxy.addons import clientplayback, eventstore, intercept
from mitmproxy.addons import view as mitmview
from mitmproxy.proxy import server_hooks
from mitmproxy.proxy.layers import websocket
from mitmproxy.proxy.layers.http import _hooks
from mitmproxy.test import tflow
from mitmproxy.tools.web import app, master
from mitmproxy.websocket import WebSocketData

from llamakey_addon.view.lookers import HOOKS, SOCKET_HOOKS
from llamakey_addon.view.roadflow import RoadFlow
from tests.test_contract import holds


@pytest.mark.parametrize(
    ("owner", "name", "where"),
    [
        (addonmanager, "traverse", "view/dispatch.py"),
        (flow.Flow, "killable", "view/roadflow.py"),
        (flow.Error, "KILLED_MESSAGE", "view/roadflow.py"),
        (clientplayback.ClientPlayback, "playback", "view/replay.py"),
        (clientplayback.ClientPlayback, "running", "view/replay.py"),
        (eventstore.EventStore, "_add_log", "view/web.py"),
        (intercept.Intercept, "request", "view/showing.py (held requests)"),
        (app.Application, "find_handler", "view/web.py"),
        (app.ClientConnection, "broadcast_flow", "view/web.py"),
        (app.Options, "put", "view/web.py"),
        (app.ExecuteCommand, "post", "view/web.py"),
        (app.ClearAll, "post", "view/web.py"),
        (master.WebMaster, "_sig_view_add", "view/web.py"),
        (master.WebMaster, "_sig_view_remove", "view/web.py"),
        (master.WebMaster, "_sig_view_update", "view/web.py"),
        (master.WebMaster, "_sig_view_refresh", "view/web.py"),
        (master.WebMaster, "_sig_events_add", "view/web.py"),
        (master.WebMaster, "_sig_events_refresh", "view/web.py"),
        (master.WebMaster, "_sig_options_update", "view/web.py"),
        (master.WebMaster, "_sig_servers_changed", "view/web.py"),
    ],
)
def test_named_things_exist(owner: object, name: str, where: str) -> None:
    holds(hasattr(owner, name), f"{owner}.{name}", where)


def test_the_hooks_of_a_flow() -> None:
    found = {
        str(hook.name)
        for hook in vars(_hooks).values()
        if isinstance(hook, type) and issubclass(hook, hooks.Hook) and hook.name
    }
    holds(set(HOOKS) <= found, "the hooks of HTTP", "view/lookers.py, view/showing.py")
    holds(
        {name for name in found if not name.startswith("http_")} == set(HOOKS),
        "just these hooks of HTTP",
        "view/lookers.py",
    )


def test_the_hooks_of_a_websocket() -> None:
    found = {
        str(hook.name)
        for hook in vars(websocket).values()
        if isinstance(hook, type) and issubclass(hook, hooks.Hook) and hook.name
    }
    holds(found == set(SOCKET_HOOKS), "just these hooks of WebSockets", "view/lookers.py")
    named = {field.name for field in fields(WebSocketData)}
    wanted = {"messages", "closed_by_client", "close_code", "close_reason", "timestamp_end"}
    holds(wanted <= named, "the fields of WebSocketData", "view/talk.py")


def test_the_store_of_a_view() -> None:
    store = mitmview.View()._store
    holds(isinstance(store, dict), "View._store as an ordered dict", "view/store.py, view/web.py")


def test_a_flow_waits_by_an_event() -> None:
    source = inspect.getsource(flow.Flow.wait_for_resume)
    holds("self._resume_event" in source, "Flow._resume_event", "view/roadflow.py (kill)")


def test_a_flow_of_ours_is_saved_as_everybodys() -> None:
    ours = RoadFlow(tflow.tclient_conn(), tflow.tserver_conn())
    ours.request = tflow.tflow().request
    ours.key_id = "abc"
    loaded = flow.Flow.from_state(ours.get_state())
    holds(type(loaded) is http.HTTPFlow, "the type of a flow in its state", "view/roadflow.py")
    twin = ours.copy()
    assert (type(twin), twin.key_id, twin.id != ours.id) == (RoadFlow, "abc", True)


async def test_replays_queue_as_ours_expects() -> None:
    playback = clientplayback.ClientPlayback()
    for name in ("queue", "inflight", "replay_tasks", "playback_task"):
        holds(hasattr(playback, name), f"ClientPlayback.{name}", "view/replay.py")
    source = inspect.getsource(clientplayback.ClientPlayback)
    holds("self.start_replay(flows)" in source, "-C by start_replay", "view/replay.py")


async def test_connections_are_made_without_mitmproxys_server() -> None:
    """`lmk serve` takes its clients itself, and shows them to whoever looks."""
    holds("server" in options.Options(), "the option `server`", "serve/master.py")
    names = {field.name for field in fields(connection.Client)}
    shown = {"peername", "sockname", "timestamp_start", "timestamp_end", "timestamp_tls_setup"}
    shown |= {"state", "proxy_mode", "tls", "tls_version", "cipher", "alpn", "error"}
    holds(shown <= names, f"Client's {sorted(shown - names)}", "view/visitors.py")
    client = connection.Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2))
    for hook, name in (
        (server_hooks.ClientConnectedHook, "client_connected"),
        (server_hooks.ClientDisconnectedHook, "client_disconnected"),
    ):
        holds(hook(client).name == name, f"the hook {name}", "view/visitors.py")
