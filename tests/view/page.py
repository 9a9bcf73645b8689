"""A client of mitmweb's page, as its script in the browser is one: token, cookie, XSRF header."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.harness import Proxy, _ticks


class Page:
    """Logs in on creation; `host` is sent as Host."""

    def __init__(self, port: int, token: str, host: str = "") -> None:
        self.port = port
        self.token = token
        self._host = host or f"127.0.0.1:{port}"
        self._cookies = {"_mitmproxy_xsrf": "page"}  # what counts is that cookie and header agree
        self.call("GET", f"/?token={token}")

    @classmethod
    def of(cls, proxy: Proxy) -> Page:
        """The page of a running proxy: of mitmweb, or of `lmk serve --web`."""
        if proxy.mode == "mitmweb":
            return cls(proxy.web_port, proxy.web_token)
        url = urlsplit((proxy.home / "mitmweb.url").read_text().strip())
        assert url.port
        return cls(url.port, parse_qs(url.query)["token"][0])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/?token={self.token}"

    def call(
        self, method: str, path: str, body: Any = None, *, raw: bytes | None = None
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=45)
        headers = {
            "Host": self._host,
            "Cookie": "; ".join(f"{k}={v}" for k, v in self._cookies.items()),
            "X-XSRFToken": self._cookies["_mitmproxy_xsrf"],
        }
        if body is not None:
            raw = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, path, raw, headers)
            answer = connection.getresponse()
            for line in answer.headers.get_all("Set-Cookie", []):
                for name, morsel in SimpleCookie(line).items():
                    self._cookies[name] = morsel.value
            return answer.status, answer.read()
        finally:
            connection.close()

    def do(self, method: str, path: str, body: Any = None) -> bytes:
        """The same for what must succeed."""
        status, answer = self.call(method, path, body)
        assert status == 200, (method, path, status, answer)
        return answer

    def flows(self) -> list[dict[str, Any]]:
        return json.loads(self.do("GET", "/flows"))

    def content(self, flow: dict[str, Any], message: str) -> bytes:
        return self.do("GET", f"/flows/{flow['id']}/{message}/content.data")

    def again(self, flow: dict[str, Any]) -> dict[str, Any]:
        """The flow as it is now."""
        return next(each for each in self.flows() if each["id"] == flow["id"])

    def wait(self, wanted: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """The newest flow for which this is true."""
        for _ in ticks(15):
            for flow in reversed(self.flows()):
                if wanted(flow):
                    return flow
        raise TimeoutError(f"no such flow; the last is {self.flows()[-1:]}")

    def options(self, **values: Any) -> None:
        self.do("PUT", "/options", values)


ticks = _ticks


def marked(mark: str) -> Callable[[dict[str, Any]], bool]:
    """The flow of the request with this `x-mark`, once it is over."""

    def found(flow: dict[str, Any]) -> bool:
        over = "error" in flow or flow.get("response", {}).get("timestamp_end") is not None
        return ["x-mark", mark] in flow["request"]["headers"] and over

    return found


def begun(mark: str) -> Callable[[dict[str, Any]], bool]:
    """The flow of the request with this `x-mark`."""
    return lambda flow: ["x-mark", mark] in flow["request"]["headers"]
