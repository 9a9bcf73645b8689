"""What every program here shares: a surface is called, and what came of it is printed as JSON.

A program runs in a fresh process of an SDK's own environment. It knows nothing of the proxy: where
to go and with which key, it learns from the SDK's environment variables alone. Two further
variables hold keys for what must fail: FAKE_DENIED_KEY (nobody knows it) and FAKE_LIMITED_KEY
(its user may not do what the program asks). What it would look up or connect to beyond this machine
is one more surface, `strays`.
"""

from __future__ import annotations

import atexit
import hashlib
import ipaddress
import json
import os
import sys

RESULTS: dict = {}
STRAYS: set = set()
DENIED = os.environ.get("FAKE_DENIED_KEY", "")
LIMITED = os.environ.get("FAKE_LIMITED_KEY", "")
UPLOAD = b"line one\r\n\x00\xff line two" * 200


def surface(call):
    """Decorates a function without arguments: calls it at once, and notes its value or error."""
    try:
        RESULTS[call.__name__] = {"value": call()}
    except Exception as error:
        RESULTS[call.__name__] = {
            "raised": type(error).__name__,
            "kinds": [kind.__name__ for kind in type(error).__mro__],
            "text": f"{error}"[:2000],
        }
    return call


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _is_here(host) -> bool:
    name = host.decode() if isinstance(host, bytes) else str(host or "")
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name in ("", "localhost", os.uname().nodename)


def _watch(event: str, args: tuple) -> None:
    if event == "socket.getaddrinfo":
        host = args[0]
    elif event == "socket.connect" and isinstance(args[1], tuple):
        host = args[1][0]
    else:
        return
    if not _is_here(host):
        STRAYS.add(host.decode() if isinstance(host, bytes) else str(host))


sys.addaudithook(_watch)


@atexit.register
def _print() -> None:
    print(json.dumps(RESULTS | ({"strays": {"value": sorted(STRAYS)}} if STRAYS else {})))
