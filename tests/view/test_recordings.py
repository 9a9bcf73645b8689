"""What mitmdump writes and prints: `-w`, HAR, flow_detail=4; no key in any of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from mitmproxy import http
from mitmproxy.io import FlowReader

from tests import canary
from tests.conftest import Start
from tests.fakes import World
from tests.fakes.families.openai import TEXT
from tests.harness import Proxy
from tests.view.conftest import CHAT, CONFIG, MEDDLER, Caller


def _recording(proxy: Start, folder: Path) -> Proxy:
    return proxy(
        "mitmdump",
        config=CONFIG,
        args=[
            *("-w", str(folder / "flows")),
            *("--set", f"hardump={folder / 'all.har'}"),
            *("--set", "flow_detail=4"),
            *("-s", str(MEDDLER)),
        ],
    )


def test_everything_that_is_recorded(
    proxy: Start, world: World, tmp_path: Path, caller: Callable[[Proxy], Caller]
) -> None:
    watched = _recording(proxy, tmp_path)
    call = caller(watched)
    assert call().status == 200
    assert b"data: [DONE]" in call(body=CHAT[:-1] + b', "stream": true}').body
    for form in ("plain", "base64"):
        echoed = call(f"/cohere/odd/echo?form={form}", b"", method="GET")
        assert canary.find(echoed.body, [world.key("cohere")]) == []
    call("/cohere/odd/echo?form=gzip", b"", method="GET")
    redirected = call("/cohere/odd/redirect?to=https://elsewhere.example/x", b"", method="GET")
    assert redirected.status == 302
    assert call(key="").status == 401
    assert call(meddle="request raise ValueError").status == 500
    assert call("/cohere/odd/truncated?framing=chunked", b"", method="GET").whole is False
    watched.stop()

    with (tmp_path / "flows").open("rb") as file:
        flows = list(FlowReader(file).stream())
    assert all(type(flow) is http.HTTPFlow for flow in flows)
    kinds = [
        (flow.response.status_code if flow.response else 0, flow.error is not None)
        for flow in flows
        if isinstance(flow, http.HTTPFlow)
    ]
    assert len(flows) == 9
    assert (200, False) in kinds
    assert (401, False) in kinds
    assert (500, False) in kinds
    assert (200, True) in kinds
    first = flows[0]
    assert isinstance(first, http.HTTPFlow)
    assert first.request.raw_content == CHAT
    assert first.response is not None
    assert first.response.json()["choices"][0]["message"]["content"] == TEXT
    assert first.metadata["llamakey_user"] == "alice"
    assert first.request.pretty_url == f"{watched.url}/openai/v1/chat/completions"

    har = json.loads((tmp_path / "all.har").read_bytes())
    assert len(har["log"]["entries"]) == len(flows)
    assert TEXT in har["log"]["entries"][0]["response"]["content"]["text"]
    assert "Hello" in watched.output()
    keys = [*world.keys.values(), *watched.keys]
    assert canary.find_in_folder(tmp_path, keys) == []
    assert canary.find(repr([flow.get_state() for flow in flows]).encode(), keys) == []


def test_without_anybody_who_looks_there_is_no_flow(
    proxy: Start, tmp_path: Path, caller: Callable[[Proxy], Caller]
) -> None:
    """And somebody who comes later is noticed."""
    watcher = tmp_path / "late.py"
    watcher.write_text(
        "import gc, logging, pathlib\n"
        "from mitmproxy import ctx, http\n"
        "class Late:\n"
        "    def request(self, flow):\n"
        "        logging.warning('late has seen %s', flow.request.method)\n"
        "def client_disconnected(client):\n"
        "    flows = [x for x in gc.get_objects() if isinstance(x, http.HTTPFlow)]\n"
        "    logging.warning('%d flows', len(flows))\n"
        "    if pathlib.Path('now').exists():\n"
        "        ctx.master.addons.add(Late())\n"
    )
    watched = proxy("mitmdump", args=["-s", str(watcher), "--set", "flow_detail=0"])
    call = caller(watched)
    assert call().status == 200
    (watched.folder / "now").touch()
    assert watched.healthy()
    seen = watched.wait_for_output("0 flows")
    assert "late has seen" not in seen
    (watched.folder / "now").unlink()
    assert call().status == 200
    watched.wait_for_output("late has seen POST")
