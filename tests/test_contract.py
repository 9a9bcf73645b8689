"""Each thing of mitmproxy's inner API that LlamaKey leans on, by name.

mitmproxy promises none of these. When a new version moves one, the test that names it says which
file of ours has to follow, before a proxy finds out.
"""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import fields

import pytest
from mitmproxy import addonmanager, addons, connection, hooks, master, options, tls
from mitmproxy.addons import clientplayback, next_layer, proxyserver, script
from mitmproxy.proxy import commands, context, events, layer, layers, mode_servers, server
from mitmproxy.proxy.layers import modes
from mitmproxy.proxy.mode_specs import ProxyMode, ReverseMode

from llamakey_addon.layer import RoadLayer
from llamakey_addon.options import DEAD_MODE, REFUSED


def holds(fact: object, what: str, where: str) -> None:
    assert fact, f"mitmproxy no longer has {what}: {where} leans on it and must follow"


@pytest.mark.parametrize(
    ("owner", "name", "where"),
    [
        (server.ConnectionHandler, "server_event", "layer.py (_flush)"),
        (server.ConnectionHandler, "drain_writers", "layer.py (put out of work)"),
        (server.ConnectionHandler, "handle_connection", "layer.py"),
        (server.ConnectionHandler, "on_timeout", "addon.py (tcp_timeout is raised)"),
        (layer.Layer, "_handle_event", "layer.py"),
        (layer.Layer, "handle_event", "layer.py"),
        (layer.NextLayer, "data_client", "addon.py (_choose)"),
        (proxyserver.Proxyserver, "setup_servers", "addon.py (_serve_in_our_mode)"),
        (proxyserver.Proxyserver, "register_connection", "addon.py"),
        (proxyserver.Servers, "__len__", "addon.py (_serve_in_our_mode)"),
        (mode_servers.ServerInstance, "make_top_layer", "addon.py"),
        (addonmanager.AddonManager, "handle_lifecycle", "view/dispatch.py"),
        (clientplayback.ClientPlayback, "start_replay", "view/replay.py"),
        (clientplayback.ClientPlayback, "check", "view/replay.py"),
    ],
)
def test_named_things_exist(owner: type, name: str, where: str) -> None:
    holds(hasattr(owner, name), f"{owner.__name__}.{name}", where)


def test_a_connection_handler_drains_by_a_method_that_can_be_replaced() -> None:
    source = inspect.getsource(server.ConnectionHandler.handle_connection)
    holds("await self.drain_writers()" in source, "handle_connection's drain_writers", "layer.py")


def test_a_connection_handler_knows_its_streams() -> None:
    names = {field.name for field in fields(server.ConnectionIO)}
    holds({"handler", "reader", "writer"} <= names, "ConnectionIO's fields", "layer.py, addon.py")
    source = inspect.getsource(server.ConnectionHandler.__init__)
    holds("self.transports = {}" in source, "ConnectionHandler.transports", "layer.py")
    source = inspect.getsource(asyncio.StreamReader.feed_data)
    assert "self._paused = True" in source, "asyncio has moved StreamReader._paused: see layer.py"


def test_server_event_is_one_step_under_a_lock() -> None:
    holds(
        inspect.iscoroutinefunction(server.ConnectionHandler.server_event),
        "server_event as a coroutine",
        "layer.py (_flush)",
    )
    source = inspect.getsource(server.ConnectionHandler.server_event)
    holds("_server_event_lock" in source, "the lock of server_event", "layer.py (_flush)")
    body = source.split("# No `await` beyond this point.")
    holds(len(body) == 2 and "await" not in body[1], "server_event without waits", "layer.py")


def test_commands_and_events() -> None:
    client = connection.Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2))
    assert commands.SendData(client, b"x").data == b"x"
    assert commands.CloseTcpConnection(client, half_close=True).half_close is True
    assert issubclass(commands.CloseTcpConnection, commands.CloseConnection)
    assert commands.CloseConnection(client).blocking is False
    assert events.DataReceived(client, b"x").data == b"x"
    assert events.ConnectionClosed(client).connection is client
    holds(client.id, "Client.id", "addon.py")


def test_a_layer_is_put_on_the_stack_by_its_context() -> None:
    client = connection.Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2))
    ctx = context.Context(client, options.Options())
    nothing = layers.TCPLayer(ctx)
    assert ctx.layers == [nothing]
    assert issubclass(RoadLayer, layer.Layer)


def test_reverse_mode_with_a_dead_upstream_asks_for_a_layer_at_the_first_byte() -> None:
    mode = ProxyMode.parse(DEAD_MODE)
    assert isinstance(mode, ReverseMode)
    assert mode.address == ("127.0.0.1", 9)
    source = inspect.getsource(modes.ReverseProxy)
    holds("layer.NextLayer(self.context)" in source, "ReverseProxy's NextLayer", "addon.py")
    source = inspect.getsource(modes.DestinationKnown)
    holds('connection_strategy == "eager"' in source, "lazy connections", "options.py")


def test_mitmproxys_own_next_layer_leaves_a_choice_alone() -> None:
    source = inspect.getsource(next_layer.NextLayer.next_layer)
    holds("if nextlayer.layer:\n            return" in source, "NextLayer's manners", "addon.py")
    names = [type(addon).__name__ for addon in addons.default_addons()]
    holds(
        names.index("ScriptLoader") < names.index("NextLayer") < names.index("TlsConfig"),
        "the order ScriptLoader, NextLayer, TlsConfig",
        "addon.py (next_layer, tls_start_client)",
    )


def test_tls_can_be_started_by_an_addon() -> None:
    names = {field.name for field in fields(tls.TlsData)}
    holds({"ssl_conn", "context"} <= names, "TlsData.ssl_conn", "addon.py (tls_start_client)")


def test_a_script_is_removed_before_it_is_loaded_again() -> None:
    source = inspect.getsource(script.Script.loadscript)
    holds(
        source.index("addons.remove") < source.index("load_script("),
        "`done` before a reload",
        "addon.py (gate.shut)",
    )


def test_a_master_says_when_it_ends_and_runs_tasks_eagerly() -> None:
    source = inspect.getsource(master.Master.run)
    holds("set_eager_task_factory" in source, "eager tasks", "layer.py (_flush), upstream.py")
    holds("should_exit" in source, "Master.should_exit", "addon.py (done)")
    holds(asyncio.eager_task_factory, "eager_task_factory", "layer.py")


def test_hooks_of_flows_have_their_names() -> None:
    for name in ("requestheaders", "request", "responseheaders", "response", "error", "update"):
        holds(name in hooks.all_hooks, f"the hook {name!r}", "view/dispatch.py")


def test_every_refused_option_is_one_of_mitmproxys() -> None:
    """An option that mitmproxy dropped or renamed would be refused in vain."""

    async def known() -> set[str]:
        opts = options.Options()
        running = master.Master(opts)
        running.addons.add(*addons.default_addons())
        return set(opts.keys())

    unknown = set(REFUSED) - asyncio.run(known())
    holds(not unknown, f"the options {sorted(unknown)}", "options.py (REFUSED)")
