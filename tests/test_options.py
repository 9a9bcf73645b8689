"""mitmproxy's options with which LlamaKey does not run: each is refused by its name."""

from __future__ import annotations

from typing import Any

import pytest
from mitmproxy import options as mitmproxy_options
from mitmproxy.addons import default_addons
from mitmproxy.master import Master

from llamakey_addon import options

SAFE: dict[str, Any] = {
    "mode": [options.DEAD_MODE],
    "connection_strategy": "lazy",
    "onboarding": False,
    "allow_hosts": [],
    "stickyauth": None,
    "ssl_insecure": False,
}


def test_what_llamakey_sets_is_not_refused() -> None:
    assert options.refusal(SAFE) == ""
    assert options.refusal({**SAFE, "mode": [f"{options.DEAD_MODE}@8000"]}) == ""


@pytest.mark.parametrize("name", options.REFUSED)
def test_each_option_is_refused_by_its_name(name: str) -> None:
    wanted: tuple[object, ...] = (True, "x", ["x"], ["x", "y"])
    for value in wanted:
        assert name in options.refusal({**SAFE, name: value})
    unset: tuple[object, ...] = (False, "", None, [])
    for value in unset:
        assert options.refusal({**SAFE, name: value}) == ""


@pytest.mark.parametrize(
    "modes",
    [
        ["regular"],
        ["socks5"],
        ["transparent"],
        ["local"],
        ["wireguard"],
        ["dns"],
        ["upstream:http://127.0.0.1:9"],
        ["reverse:https://api.openai.com"],
        ["reverse:http://127.0.0.1:99"],
        ["reverse:http://127.0.0.1:9.evil.example"],
        ["reverse:http://127.0.0.1:9/x"],
        [options.DEAD_MODE, "regular"],
    ],
    ids="|".join,
)
def test_other_modes_are_refused(modes: list[str]) -> None:
    said = options.refusal({**SAFE, "mode": modes})
    assert "mode" in said
    assert modes[-1] in said


def test_connections_before_judgement_are_refused() -> None:
    assert "connection_strategy" in options.refusal({**SAFE, "connection_strategy": "eager"})


async def test_every_refused_option_is_one_of_mitmproxys() -> None:
    """A name that mitmproxy has renamed would be looked for in vain."""
    master = Master(mitmproxy_options.Options())
    master.addons.add(*default_addons())
    assert set(options.REFUSED) <= set(master.options.keys())
