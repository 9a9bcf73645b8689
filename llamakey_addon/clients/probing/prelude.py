"""Runs one call of a client, under whatever Python the client is installed for.

What it is to do stands in LLAMAKEY_PROBE, as JSON; what came of it is the last line of its output.
An audit hook refuses every connection but those to the proxy.
"""

import json
import os
import sys
import traceback
from typing import Any, Dict, List  # noqa: UP035  old Pythons read this, too

RESULT = "LLAMAKEY-PROBE "


def main() -> Dict[str, Any]:  # noqa: UP006
    wish = json.loads(os.environ.pop("LLAMAKEY_PROBE"))
    if "versions" in wish:
        return versions(wish["versions"])
    strays: List[str] = []  # noqa: UP006
    names, places = set(wish["names"]), {tuple(place) for place in wish["places"]}

    def hook(event: str, arguments: Any) -> None:
        if event == "socket.getaddrinfo":
            host, port = arguments[0], arguments[1]
            if isinstance(host, bytes):
                host = host.decode("latin-1")
            if host is None or host in names:
                return
        elif event == "socket.connect" and isinstance(arguments[1], tuple):
            host, port = arguments[1][:2]
            if (host, port) in places:
                return
        else:
            return
        strays.append(f"{host}:{port}")
        raise OSError(f"{host} is not the proxy")

    sys.addaudithook(hook)
    space = {"BASE": wish["base"], "HEADERS": wish["headers"], "MARK": wish["mark"], "os": os}
    result: Dict[str, Any] = {"error": ""}  # noqa: UP006
    try:
        exec(compile(wish["call"], "<call>", "exec"), space)  # noqa: S102  of our own probes.yaml
    except BaseException as error:
        result["error"] = type(error).__name__
        result["text"] = "".join(
            traceback.format_exception(type(error), error, error.__traceback__)
        )
    result["strays"] = strays
    return result


def versions(packages: List[str]) -> Dict[str, str]:  # noqa: UP006
    """Those that are installed, with their versions."""
    from importlib import metadata

    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            pass
    return found


if __name__ == "__main__":
    text = json.dumps(main())
    sys.stdout.flush()
    sys.stdout.write("\n" + RESULT + text + "\n")
    sys.stdout.flush()
    os._exit(0)  # whatever threads the client has left
