"""`lmk serve --web`: the page looks, holds, edits and replays, and does nothing else."""

from __future__ import annotations

import http.client
import json
import ssl
import stat
import threading
from typing import Any

import httpx
import pytest

from tests.conftest import Start
from tests.harness import Proxy, free_port
from tests.view.conftest import CONFIG, Caller
from tests.view.page import Page, begun, marked, ticks

DOOR = free_port()


@pytest.fixture
def served(shared_proxy: Start) -> Proxy:
    config = {**CONFIG, "view": {"web_port": 0, "max_flows": 20}}
    config["door"] = {"open": True, "listen": f"localhost:{DOOR}"}
    return shared_proxy("lmk", config=config, args=("--web",))


@pytest.fixture
def web(served: Proxy) -> Page:
    return Page.of(served)


@pytest.fixture
def calling(served: Proxy, marks: str) -> Caller:
    return Caller(served, marks)


def test_it_shows_holds_edits_resumes_and_replays(web: Page, calling: Caller) -> None:
    assert calling().status == 200
    flow = web.wait(marked(calling.mark))
    assert b"Hello" in web.content(flow, "response")
    assert b"pretty" not in web.do("GET", f"/flows/{flow['id']}/response/content/Auto.json")
    web.do("POST", f"/flows/{flow['id']}/replay")
    web.wait(lambda each: each["id"] == flow["id"] and each["is_replay"] and "response" in each)
    exported = json.loads(
        web.do("POST", "/commands/export", {"arguments": ["curl", f"@{flow['id']}"]})
    )
    assert exported["value"].startswith("curl ")
    assert calling.proxy.local_key not in exported["value"]
    web.options(intercept="~m PUT")
    thread = threading.Thread(target=lambda: calling(method="PUT"))
    thread.start()
    held = web.wait(lambda each: begun(calling.mark)(each) and each["intercepted"])
    web.do("POST", "/clear")
    assert [each["id"] for each in web.flows()] == [held["id"]]
    web.do("PUT", f"/flows/{held['id']}", {"request": {"method": "POST"}, "comment": "mine"})
    web.do("POST", f"/flows/{held['id']}/resume")
    thread.join(20)
    web.options(intercept="")
    done = web.wait(marked(calling.mark))
    assert (done["response"]["status_code"], done["comment"]) == (200, "mine")
    web.do("DELETE", f"/flows/{done['id']}")
    assert web.flows() == []


def test_what_came_by_the_second_door_is_shown_and_replayed(web: Page, calling: Caller) -> None:
    proxy = calling.proxy
    real = "sk-proj-real-key-of-a-clients-own-0123456789"
    trust = ssl.create_default_context(cafile=str(proxy.home / "door" / "bundle.pem"))
    door = f"http://key:{proxy.local_key}@localhost:{DOOR}"
    with httpx.Client(proxy=door, verify=trust, trust_env=False) as client:
        answer = client.post(
            "https://api.openai.com/v1/chat/completions",
            headers={"x-mark": calling.mark, "Authorization": f"Bearer {real}"},
            json={"model": "m", "messages": []},
        )
    assert answer.status_code == 200
    flow = web.wait(marked(calling.mark))
    assert flow["request"]["path"] == "/openai/v1/chat/completions"
    assert not [key for key in (real, proxy.local_key) if key in json.dumps(flow)]
    web.do("POST", f"/flows/{flow['id']}/replay")
    again = web.wait(lambda e: e["id"] == flow["id"] and e["is_replay"] and "response" in e)
    assert again["response"]["status_code"] == 200
    web.do("POST", "/clear")


REFUSED: list[tuple[str, str, Any]] = [
    ("PUT", "/options", {"scripts": ["/tmp/x.py"]}),
    ("PUT", "/options", {"intercept": "~all", "mode": ["regular"]}),
    ("PUT", "/options", {"map_local": ["|/|/etc"]}),
    ("PUT", "/options", {"lmk_config": "/tmp/x"}),
    ("PUT", "/options", {"web_host": "0.0.0.0"}),
    ("PUT", "/options", ["intercept"]),
    ("POST", "/options/save", None),
    ("POST", "/options", {"intercept": "x"}),
    ("POST", "/commands/script.run", {"arguments": ["@all", "/tmp/x.py"]}),
    ("POST", "/commands/set", {"arguments": ["scripts=/tmp/x.py"]}),
    ("POST", "/commands/options.load", {"arguments": ["/tmp/x"]}),
    ("POST", "/commands/export.file", {"arguments": ["raw", "@all", "/tmp/x"]}),
    ("POST", "/commands/replay.client.file", {"arguments": ["/tmp/x"]}),
    ("POST", "/commands/view.flows.create", {"arguments": ["get", "http://x"]}),
    ("POST", "/commands/view.flows.load", {"arguments": ["/etc/passwd"]}),
    ("POST", "/flows/dump", None),
    ("GET", "/processes", None),
    ("GET", "/executable-icon?path=/bin/sh", None),
    ("POST", "/flows/00000000-0000-0000-0000-000000000000/response/content.data", None),
    ("GET", "/whatever", None),
]


@pytest.mark.parametrize(("method", "path", "body"), REFUSED)
def test_everything_else_is_refused(web: Page, method: str, path: str, body: Any) -> None:
    status, answer = web.call(method, path, body)
    assert status == 403
    assert answer.startswith(b"LlamaKey: ")
    assert answer.count(b"\n") <= 1


def test_every_handler_of_mitmwebs_is_decided() -> None:
    """A new one in a later mitmproxy is refused, and this says to look at it."""
    from mitmproxy.tools.web import app

    from llamakey_addon.view.web import _SERVED

    example = {
        "flow_id": "0a-1",
        "message": "request",
        "content_view": "Auto",
        "cmd": "export",
    }
    undecided = []
    for pattern, _ in app.handlers:
        path = str(pattern)
        for name, value in example.items():
            start = path.find(f"(?P<{name}>")
            if start >= 0:
                end = path.index(")", start)
                path = path[:start] + value + path[end + 1 :]
        path = path.replace(r"(?:\.json)?", "").replace("\\", "")
        if not any(rule.path.fullmatch(path) for rule in _SERVED):
            undecided.append(path)
    assert undecided == ["/options/save", "/processes", "/executable-icon"]


def test_options_show_nothing_secret(web: Page) -> None:
    options = json.loads(web.do("GET", "/options"))
    assert "intercept" in options
    assert not {"web_password", "cert_passphrase", "proxyauth"} & options.keys()


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "evil.example:{port}", "", "a@b"])
def test_another_host_is_refused(web: Page, host: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=45)
    connection.putrequest("GET", f"/flows?token={web.token}", skip_host=True)
    connection.putheader("Host", host.format(port=web.port))
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == (400 if "@" in host else 403)
    assert b'"id"' not in answer.read()
    connection.close()


def test_nobody_without_the_token(web: Page) -> None:
    for path in ("/flows", "/options", "/flows?token=", "/flows?token=%C3%A9", "/updates"):
        connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=45)
        connection.request("GET", path)
        assert connection.getresponse().status == 403
        connection.close()


def test_a_write_without_the_pages_own_header_is_refused(web: Page, served: Proxy) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=45)
    connection.request("POST", f"/clear?token={web.token}")
    assert connection.getresponse().status == 403
    connection.close()
    assert web.token not in web.do("GET", "/events").decode()
    assert web.token not in served.output()


def test_it_listens_on_loopback_and_the_token_is_the_owners(web: Page, served: Proxy) -> None:
    file = served.home / "mitmweb.url"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert web.token not in served.output()
    assert file.read_text().startswith("http://127.0.0.1:")


def test_the_oldest_flows_are_dropped(web: Page, calling: Caller) -> None:
    web.do("POST", "/clear")
    web.options(intercept="~hq held")
    thread = threading.Thread(target=lambda: calling(more=(("held", "1"),)))
    thread.start()
    held = web.wait(lambda each: begun(calling.mark)(each) and each["intercepted"])
    for _ in range(30):
        calling()
    for _ in ticks(10):
        flows = web.flows()
        if len(flows) <= 20:
            break
    assert len(flows) == 20
    assert held["id"] in [flow["id"] for flow in flows]
    web.do("POST", "/flows/resume")
    web.options(intercept="")
    thread.join(20)


def test_a_taken_port_is_said_before_anything_starts(proxy: Start, web: Page) -> None:
    from tests.harness import StartFailed

    with pytest.raises(StartFailed, match=r"view\.web_port"):
        proxy("lmk", config={"view": {"web_port": web.port}}, args=("--web",))
