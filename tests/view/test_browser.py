"""mitmweb's page in a real browser: it loads, shows flows as they come, and holds and replays."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import canary
from tests.conftest import Start
from tests.fakes import World
from tests.fakes.families.openai import TEXT
from tests.harness import Proxy
from tests.view import browser
from tests.view.browser import Browser
from tests.view.conftest import CONFIG, MEDDLER, Caller
from tests.view.page import Page

COMMAND = browser.find()
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(COMMAND is None, reason="no Chromium: apt-get install chromium"),
]
ROWS = "[...document.querySelectorAll('.flow-table tbody tr')].filter(r => r.innerText.trim())"


@pytest.fixture(params=["mitmweb", "lmk"])
def looked_at(request: pytest.FixtureRequest, shared_proxy: Start) -> Proxy:
    if request.param == "mitmweb":
        return shared_proxy("mitmweb", config=CONFIG, args=("-s", str(MEDDLER)))
    return shared_proxy("lmk", config={**CONFIG, "view": {"web_port": 0}}, args=("--web",))


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Browser]:
    assert COMMAND
    with Browser(COMMAND, tmp_path / "profile") as running:
        yield running


def _button(word: str) -> str:
    return (
        "[...document.querySelectorAll('button, a')]"
        f".find(b => b.innerText.trim().startsWith({word!r}))"
    )


def test_the_page(tab: Browser, looked_at: Proxy, world: World, tmp_path: Path) -> None:
    page = Page.of(looked_at)
    page.do("POST", "/clear")
    call = Caller(looked_at, f"browser-{looked_at.mode}")
    assert call().status == 200
    tab.open(page.url)
    tab.wait(f"{ROWS}.length == 1")
    assert "/openai/v1/chat/completions" in tab.js(f"{ROWS}[0].innerText")
    # a flow that comes while the page is open, by its WebSocket
    assert call(key="").status == 401
    tab.wait(f"{ROWS}.length == 2")
    assert "401" in tab.js(f"{ROWS}.map(r => r.innerText).join(' ')")

    tab.click(f"{ROWS}.find(r => r.innerText.includes('200'))")
    key_id = looked_at.local_key.split("-")[2]
    tab.wait(f"document.body.innerText.includes('Bearer sk-lmk-{key_id}-...')")
    tab.click(_button("Response"))
    tab.wait(f"document.body.innerText.includes({TEXT!r})")
    tab.picture(tmp_path / "response.png")

    start = world.mark()
    tab.click(_button("Replay"))
    world.wait_for(1, "openai", since=start)
    tab.wait(f"document.body.innerText.includes({TEXT!r})")

    page.options(intercept="~m DELETE")
    thread = threading.Thread(target=lambda: call("/openai/v1/files/f", b"", method="DELETE"))
    thread.start()
    tab.wait(f"{ROWS}.length == 3")
    tab.click(f"{ROWS}.find(r => r.innerText.includes('DELETE'))")
    tab.wait(f"({_button('Resume')})?.disabled === false")
    tab.picture(tmp_path / "held.png")
    tab.click(_button("Resume"))
    thread.join(20)
    assert not thread.is_alive()
    page.options(intercept="")
    everything = tab.js("document.documentElement.outerHTML").encode()
    assert canary.find(everything, [*world.keys.values(), *looked_at.keys]) == []
    assert tab.complaints() == []


def test_what_the_page_may_not_do_is_said(tab: Browser, shared_proxy: Start) -> None:
    """By its own script, in its own origin: the refusal is an answer, not a broken page."""
    config = {**CONFIG, "view": {"web_port": 0}}
    page = Page.of(shared_proxy("lmk", config=config, args=("--web",)))
    tab.open(page.url)
    tab.wait("document.querySelector('#mitmproxy, .flow-table, header') !== null")
    tab.wait("document.cookie.includes('_mitmproxy_xsrf')")
    answer = tab.js(
        "fetch('/options', {method: 'PUT', headers: {'Content-Type': 'application/json',"
        " 'X-XSRFToken': document.cookie.match(/_mitmproxy_xsrf=([^;]*)/)[1]},"
        " body: JSON.stringify({scripts: ['/tmp/x.py']})})"
        ".then(async answer => [answer.status, await answer.text()])"
    )
    assert answer[0] == 403
    assert "scripts cannot be changed here" in answer[1]
