"""The test's side of `saboteur.py`."""

from __future__ import annotations

import json
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.conftest import Start
from tests.harness import Mode, Proxy

SABOTEUR = Path(__file__).with_name("saboteur.py")


class Refused(Exception):
    """The proxy did not obey; says what it raised."""


class Saboteur:
    """A line to the script inside a proxy."""

    def __init__(self, path: str) -> None:
        self._path = path

    def _order(self, **order: Any) -> Any:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(45)
            line.connect(self._path)
            line.sendall(json.dumps(order).encode() + b"\n")
            answer = json.loads(line.makefile().readline())
        if "error" in answer:
            raise Refused(answer["error"])
        return answer["ok"]

    @contextmanager
    def broken(
        self, where: str, kind: str, times: int = 1, *, secret: bool = True
    ) -> Iterator[None]:
        """`module:Attribute.path` raises, so many times; afterwards all is whole again.

        With `secret` the error's text holds a real key, which must then be found nowhere.
        """
        self._order(**{"break": where, "kind": kind, "times": times, "secret": secret})
        try:
            yield
        finally:
            self._order(mend=True)

    def set(self, **options: Any) -> None:
        """Sets mitmproxy's options at run time. Raises Refused."""
        self._order(set=options)

    def get(self, option: str) -> Any:
        return self._order(get=option)


_FOLDER = tempfile.TemporaryDirectory(prefix="lmk-sab-")


def start_with_saboteur(
    start: Start, mode: Mode = "mitmdump", config: Mapping[str, Any] | None = None
) -> tuple[Proxy, Saboteur]:
    """A proxy, and the saboteur loaded beside LlamaKey."""
    # a path of a unix socket is short; one for each worker and mode
    path = f"{_FOLDER.name}/{mode}"
    proxy = start(
        mode,
        config=config,
        env={"SABOTEUR": path},
        args=("-s", str(SABOTEUR)),
    )
    return proxy, Saboteur(path)
