"""The fakes as a process of their own: `python -m tests.fakes --folder DIR [PROVIDER …]`.

Prints one JSON line `{"ca", "origins", "keys"}` (all providers when none is named), then answers
each JSON line on standard input by one on standard output, until its end:

    {"do": "requests", "since": 0}      {"requests": [{family, method, target, head, body, …}, …]}
    {"do": "violations"}                {"violations": […]}
    {"do": "release", "gate": "g", "chunks": 1}     {"sent": …, "waiting": …}
    {"do": "open", "gate": "g"}         {"sent": …, "waiting": …}
    {"do": "forbid", "secret": "…"}     {}
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from tests.fakes.families import FAMILIES
from tests.fakes.wire import Request
from tests.fakes.world import World


def describe(request: Request) -> dict[str, Any]:
    """A recorded request as JSON; bytes as latin-1 text."""
    return {
        "family": request.family,
        "connection": request.connection,
        "method": request.method,
        "target": request.target,
        "head": request.head.decode("latin-1"),
        "body": request.body.decode("latin-1"),
        "body_length": request.body_length,
        "body_sha256": request.body_sha256,
        "complete": request.complete,
        "credential": request.credential,
        "status": request.status,
    }


def obey(world: World, order: dict[str, Any]) -> dict[str, Any]:
    match order.get("do"):
        case "requests":
            return {"requests": [describe(r) for r in world.requests(since=order.get("since", 0))]}
        case "violations":
            return {"violations": world.violations}
        case "release" | "open":
            gate = world.gate(order["gate"])
            if order["do"] == "open":
                gate.open()
            else:
                gate.release(order.get("chunks", 1))
            return {"sent": gate.sent, "waiting": gate.waiting}
        case "forbid":
            world.forbid(order["secret"])
            return {}
    return {"error": f"unknown order {order.get('do')!r}"}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fakes", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where ca.pem is written")
    parser.add_argument("families", nargs="*", metavar="PROVIDER", default=[])
    arguments = parser.parse_args()
    families = arguments.families or sorted(FAMILIES)
    with World(arguments.folder) as world:
        start = {
            "ca": str(world.ca),
            "origins": {family: world.origin(family) for family in families},
            "keys": {family: world.key(family) for family in families},
        }
        print(json.dumps(start), flush=True)
        for line in sys.stdin:
            print(json.dumps(obey(world, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
