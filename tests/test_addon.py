"""The addon in a master of mitmproxy's own: what it sets and refuses."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from mitmproxy.addons import default_addons
from mitmproxy.exceptions import OptionsError
from mitmproxy.master import Master
from mitmproxy.options import Options

from llamakey_addon.addon import LlamaKey
from llamakey_addon.house import House
from llamakey_addon.options import DEAD_MODE, REFUSED
from tests.conftest import Start

#: Values that mitmproxy itself takes, where not any text is one.
_VALID = {"upstream_auth": "user:password", "proxyauth": "user:password"}


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLAMAKEY_HOME", str(tmp_path / "data"))


@contextlib.contextmanager
def loaded() -> Iterator[tuple[Master, House]]:
    """A master with mitmproxy's default addons and ours. Needs a running loop."""
    master = Master(Options())
    master.addons.add(*default_addons())
    master.addons.add(LlamaKey())
    house = master.addons.get("llamakey").house
    try:
        yield master, house
    finally:
        house.close()


async def test_it_makes_mitmproxys_defaults_safe() -> None:
    with loaded() as (master, _):
        assert master.options.mode == [DEAD_MODE]
        assert (master.options.listen_host, master.options.listen_port) == ("localhost", 8000)
        assert master.options.connection_strategy == "lazy"
        assert master.options.onboarding is False


async def test_nothing_is_idle_by_mitmproxys_clock() -> None:
    """Its time-out must end neither a long answer nor a WebSocket that is silent for days."""
    with loaded() as (master, _):
        assert master.options.tcp_timeout > 365 * 86400


@pytest.mark.parametrize(
    "mode",
    ["regular@8123", "socks5", "upstream:http://x:1", "reverse:http://x", f"{DEAD_MODE}0"],
)
async def test_another_mode_is_refused_by_name_and_changes_nothing(mode: str) -> None:
    with loaded() as (master, house):
        with pytest.raises(OptionsError, match="mode"):
            master.options.update(mode=[mode])
        assert master.options.mode == [DEAD_MODE]
        assert house.gate.shut == ""


async def test_our_mode_may_listen_elsewhere() -> None:
    with loaded() as (master, house):
        master.options.update(mode=[f"{DEAD_MODE}@8123"])
        assert house.gate.shut == ""


@pytest.mark.parametrize("name", sorted(REFUSED))
async def test_an_option_set_at_run_time_is_refused_by_name(name: str) -> None:
    with loaded() as (master, house):
        kind = str(master.options._options[name].typespec)
        value: object = (
            True if "bool" in kind else ["|x|y"] if "Sequence" in kind else _VALID.get(name, "1k")
        )
        with pytest.raises(OptionsError, match=name):
            master.options.update(**{name: value})
        assert house.gate.shut == ""


def test_a_script_starts_though_mitmproxys_default_port_is_taken(proxy: Start) -> None:
    """mitmproxy opens its own default port, 8080, before it loads a script."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # somebody else may have it already, which serves as well
        with contextlib.suppress(OSError):
            taken.bind(("", 8080))
            taken.listen()
        running = proxy("mitmdump", config={"door": {"open": True, "listen": "localhost:1"}})
        assert running.healthy()
        assert "failed to listen" not in running.output()
    # what it does not open, it says
    assert "the second door is opened by lmk serve alone" in running.output()


@pytest.mark.parametrize("mode", ["", DEAD_MODE])
def test_a_script_listens_on_loopback_alone(mode: str, proxy: Start) -> None:
    """mitmproxy's own default is every address, and it opens its sockets before it loads us."""
    running = proxy("mitmdump", args=["--mode", mode] if mode else [])
    listening = {
        connection.laddr.ip
        for connection in psutil.Process(running.process.pid).net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening <= {"127.0.0.1", "::1"}, listening
    assert listening


async def test_a_public_address_without_tls_is_refused() -> None:
    with loaded() as (master, house):
        with pytest.raises(OptionsError, match="without TLS"):
            master.options.update(listen_host="0.0.0.0")
        assert master.options.listen_host == "localhost"
        assert house.gate.shut == ""
