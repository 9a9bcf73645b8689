"""Who counts as looking: mitmproxy's own addons by their options, all others by their hooks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from mitmproxy.addonmanager import traverse
from mitmproxy.addons import default_addons, dumper, eventstore, intercept, keepserving, view
from mitmproxy.master import Master
from mitmproxy.options import Options

from llamakey_addon.view.dispatch import handlers
from llamakey_addon.view.lookers import _HOME, _OWN, HOOKS, anybody

OPTIONS: dict[str, Any] = {
    "anticache": True,
    "anticomp": True,
    "block_list": ["|~u x|404"],
    "flow_detail": 1,
    "map_local": ["|x|/tmp"],
    "map_remote": ["|x|y"],
    "modify_body": ["/x/y"],
    "modify_headers": ["/x/y"],
    "save_stream_file": "/dev/null",
    "hardump": "/dev/null",
    "stickycookie": "~all",
}


@pytest.fixture
async def master() -> AsyncIterator[Master]:
    """mitmdump's chain, with nothing wanted."""
    made = Master(Options())
    made.addons.add(*default_addons(), dumper.Dumper(), keepserving.KeepServing())
    made.options.update(flow_detail=0, onboarding=False)
    yield made
    await made.done()


def _anybody(master: Master) -> bool:
    return anybody(master.addons.lookup.values(), master.options)


async def test_mitmproxys_own_look_when_wanted(master: Master) -> None:
    assert not _anybody(master)
    for name, value in OPTIONS.items():
        before = getattr(master.options, name)
        master.options.update(**{name: value})
        assert _anybody(master), name
        master.options.update(**{name: before})
        assert not _anybody(master), name


async def test_each_of_mitmproxys_own_with_hooks_is_decided(master: Master) -> None:
    """A new one in a later mitmproxy counts as looking, and this says to decide."""
    found = {
        f"{type(addon).__module__.removeprefix(_HOME)}.{type(addon).__qualname__}"
        for addon in traverse(master.addons.chain)
        if any(handlers(addon, HOOKS))
    }
    assert found == set(_OWN)


@pytest.mark.parametrize("make", [view.View, intercept.Intercept])
async def test_the_page_and_the_console_look(master: Master, make: Any) -> None:
    master.addons.add(make())
    assert _anybody(master)


async def test_an_addon_without_a_hook_for_http_does_not(master: Master) -> None:
    class Other:
        def client_connected(self, client: object) -> None: ...

    master.addons.add(eventstore.EventStore(), Other())
    assert not _anybody(master)


@pytest.mark.parametrize("hook", HOOKS)
async def test_a_foreign_addon_with_a_hook_does(master: Master, hook: str) -> None:
    class Inner:
        name = "inner"

    class Outer:
        addons = (Inner(),)

    setattr(Inner, hook, lambda self, flow: None)
    master.addons.add(Outer())
    assert _anybody(master)
