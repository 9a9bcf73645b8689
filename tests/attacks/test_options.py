"""mitmproxy's options that would open a way around the gate: refused by name, wherever they come
from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.attacks.conftest import Door, open_door
from tests.attacks.sabotage import Refused, Saboteur, start_with_saboteur
from tests.conftest import Start
from tests.fakes import World
from tests.harness import Proxy, StartFailed, _ticks, start

VALUES: dict[str, Any] = {
    "allow_hosts": ["example.com"],
    "ignore_hosts": [".*"],
    "tcp_hosts": [".*"],
    "udp_hosts": [".*"],
    "stream_large_bodies": "1m",
    "body_size_limit": "1m",
    "keep_host_header": True,
    "stickyauth": ".*",
    "ssl_insecure": True,
    "proxy_debug": True,
    "proxyauth": "any",
    "upstream_auth": "user:pass",
    "map_remote": ["|.*|http://evil.example/"],
    "onboarding": True,
    "connection_strategy": "eager",
}
MODES = [
    ["regular@0"],
    ["socks5"],
    ["transparent"],
    ["upstream:http://127.0.0.1:1"],
    ["reverse:https://api.openai.com"],
    ["reverse:http://127.0.0.1:99"],
    ["reverse:http://127.0.0.1:9", "regular@0"],
]


def arguments(name: str, value: Any) -> list[str]:
    """An option on the command line."""
    if isinstance(value, list):
        return [part for each in value for part in ("--set", f"{name}={each}")]
    return ["--set", f"{name}={str(value).lower() if isinstance(value, bool) else value}"]


def assert_refuses_to_start(
    world: World, folder: Path, name: str, *args: str, mode: Any = "mitmdump"
) -> None:
    """It ends by itself, says which option, and nothing was ever served."""
    proxy = start(world, folder, mode, args=args, ready=False)
    served = False
    try:
        for _ in _ticks(40):
            if proxy.process.poll() is not None:
                break
            served = served or proxy.healthy()
        else:
            raise AssertionError(f"still running:\n{proxy.output()}")
    finally:
        proxy.stop()
    assert not served
    assert proxy.process.returncode != 0
    assert f"'{name}'" in proxy.output() or f"{name}" in proxy.output().replace("--set", "")
    assert "LlamaKey does not run" in proxy.output()
    assert proxy.leaks() == []


# Every option is tried at run time below, and by itself in tests/test_options.py: a start takes
# seconds, so that here a few stand for all ways in which a value may be written.
@pytest.mark.parametrize("name", ["allow_hosts", "stickyauth", "ssl_insecure", "proxy_debug"])
def test_on_the_command_line(world: World, tmp_path: Path, name: str) -> None:
    assert_refuses_to_start(world, tmp_path, name, *arguments(name, VALUES[name]))


@pytest.mark.parametrize("name", ["ignore_hosts", "mode"])
def test_in_mitmproxys_own_config(world: World, tmp_path: Path, name: str) -> None:
    confdir = tmp_path / "home" / ".mitmproxy"
    confdir.mkdir(parents=True)
    value = VALUES.get(name, ["socks5"])
    (confdir / "config.yaml").write_text(yaml.safe_dump({name: value}))
    assert_refuses_to_start(world, tmp_path, name)


def test_a_mode_on_the_command_line(world: World, tmp_path: Path) -> None:
    assert_refuses_to_start(
        world, tmp_path, "mode", "--mode", "reverse:http://127.0.0.1:9", "--mode", "regular@0"
    )


def test_a_safe_start_says_where_it_serves(world: World, tmp_path: Path) -> None:
    """The same start without any of them serves, on loopback alone, in the dead mode."""
    proxy = start(world, tmp_path, "mitmdump")
    try:
        assert "reverse proxy to http://127.0.0.1:9" in proxy.output()
        assert open_door(proxy, world).ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").status == 404
        import psutil

        places = {
            connection.laddr
            for connection in psutil.Process(proxy.process.pid).net_connections("inet")
            if connection.status == "LISTEN"
        }
        assert {place.port for place in places} == {proxy.port}
        assert {place.ip for place in places} <= {"127.0.0.1", "::1"}
    finally:
        proxy.stop()


def test_a_bad_config_of_ours_is_a_start_that_fails(world: World, tmp_path: Path) -> None:
    with pytest.raises(StartFailed) as failed:
        start(world, tmp_path, "mitmdump", config={"provders": {}})
    assert "providers" in failed.value.output
    assert "config.yaml:" in failed.value.output


# ── at run time ─────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def running(shared_proxy: Start, world: World) -> Iterator[tuple[Door, Saboteur]]:
    proxy, saboteur = start_with_saboteur(shared_proxy)
    door = open_door(proxy, world)
    yield door, saboteur
    door.assert_still_serves()


@pytest.mark.parametrize("name", VALUES)
def test_set_at_run_time(running: tuple[Door, Saboteur], name: str) -> None:
    door, saboteur = running
    before = saboteur.get(name)
    with pytest.raises(Refused, match=name):
        saboteur.set(**{name: VALUES[name]})
    assert saboteur.get(name) == before
    door.assert_still_serves()


@pytest.mark.parametrize("mode", MODES, ids="|".join)
def test_modes_set_at_run_time(running: tuple[Door, Saboteur], mode: list[str]) -> None:
    door, saboteur = running
    before = saboteur.get("mode")
    with pytest.raises(Refused, match="mode"):
        saboteur.set(mode=mode)
    assert saboteur.get("mode") == before
    for _ in _ticks(10):  # mitmproxy opens a server before others are asked, and closes it again
        if listening(door.proxy) == {door.proxy.port}:
            break
    else:
        raise AssertionError(listening(door.proxy))
    door.assert_still_serves()


def listening(proxy: Proxy) -> set[int]:
    import psutil

    found = psutil.Process(proxy.process.pid).net_connections("inet")
    return {connection.laddr.port for connection in found if connection.status == "LISTEN"}


def test_harmless_options_may_be_set(running: tuple[Door, Saboteur]) -> None:
    door, saboteur = running
    saboteur.set(flow_detail=2, anticache=True)
    door.assert_still_serves()
    saboteur.set(flow_detail=1, anticache=False)
