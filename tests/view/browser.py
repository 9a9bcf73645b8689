"""A headless Chromium, driven by its own protocol (CDP)."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any

from websockets.sync.client import connect

from tests.view.page import ticks

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def find() -> str | None:
    """The browser's command, or None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One tab. Closes itself at the end of a `with`."""

    def __init__(self, command: str, folder: Path) -> None:
        self._process = subprocess.Popen(
            [
                command,
                "--headless=new",
                "--no-sandbox",  # tests may run as root, in a container
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--disable-background-networking",
                "--remote-debugging-port=0",
                "--window-size=1280,900",
                f"--user-data-dir={folder}",
                "about:blank",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._open = contextlib.ExitStack()
        self._number = 0
        self.events: list[dict[str, Any]] = []
        try:
            connecting = connect(self._address(folder), max_size=2**26, open_timeout=45)
            self._socket = self._open.enter_context(connecting)
            target = self._call("Target.createTarget", {"url": "about:blank"})["targetId"]
            attached = self._call("Target.attachToTarget", {"targetId": target, "flatten": True})
            self._session = attached["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.do(f"{domain}.enable")
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()
        self._process.terminate()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _address(self, folder: Path) -> str:
        file = folder / "DevToolsActivePort"
        for _ in ticks(30):
            if file.exists() and len(lines := file.read_text().splitlines()) == 2:
                return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        raise TimeoutError("Chromium did not start")

    _session = ""

    def _call(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._socket.send(json.dumps(message))
        while True:
            answer = json.loads(self._socket.recv(timeout=45))
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            if "method" in answer:
                self.events.append(answer)

    def do(self, method: str, **params: Any) -> dict[str, Any]:
        return self._call(method, params)

    def open(self, url: str) -> None:
        self.do("Page.navigate", url=url)

    def js(self, expression: str) -> Any:
        """The value of an expression in the page; promises are awaited."""
        answer = self.do(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, expression: str, timeout_s: float = 20) -> Any:
        """The value of an expression once it is true."""
        for _ in ticks(timeout_s):
            if value := self.js(expression):
                return value
        raise TimeoutError(f"{expression} is not true in {self.js('document.body.innerText')!r}")

    def click(self, expression: str) -> None:
        """Click the middle of an element, as a person does."""
        box = self.js(
            f"(() => {{ const r = ({expression}).getBoundingClientRect();"
            "return [r.x + r.width / 2, r.y + r.height / 2] })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.do(
                "Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left",
                clickCount=1,
            )  # fmt: skip

    def picture(self, file: Path) -> None:
        """A PNG of what is shown."""
        file.write_bytes(base64.b64decode(self.do("Page.captureScreenshot")["data"]))

    def complaints(self) -> list[str]:
        """Errors of scripts, and answers that were refused."""
        found = []
        for event in self.events:
            params = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                found.append(json.dumps(params["exceptionDetails"]))
            if event["method"] != "Network.responseReceived":
                continue
            if (status := params["response"]["status"]) >= 400:
                found.append(f"{status} {params['response']['url'].partition('?')[0]}")
        return found
