"""A foreign addon that does in each hook what a request's `x-meddle` asks for.

`HOOK DEED [ARGUMENT]`, several by `;`. It writes the hooks that it sees to `hooks.jsonl`.
"""

import asyncio
import json
import sys
from pathlib import Path

from mitmproxy import http

SEEN = Path("hooks.jsonl")
KINDS = {
    kind.__name__: kind
    for kind in (
        ValueError,
        RecursionError,
        MemoryError,
        asyncio.CancelledError,
        SystemExit,
        KeyboardInterrupt,
    )
}


def deeper(depth):
    return deeper(depth + 1) + 1


def _see(hook, flow):
    fact = {
        "hook": hook,
        "mark": flow.request.headers.get("x-mark", ""),
        "status": flow.response.status_code if flow.response else None,
        "content": flow.request.raw_content is not None,
        "metadata": dict(flow.metadata),
    }
    with SEEN.open("a") as file:
        file.write(json.dumps(fact) + "\n")


def _act(hook, flow):
    _see(hook, flow)
    for deed in flow.request.headers.get("x-meddle", "").split(";"):
        words = deed.split(None, 2)
        if len(words) < 2 or words[0] != hook:
            continue
        argument = words[2] if len(words) > 2 else ""
        match words[1]:
            case "raise":
                raise KINDS[argument]("deliberate")
            case "recurse":
                deeper(0)
            case "exit":
                sys.exit(argument)
            case "path":
                flow.request.path = argument
            case "method":
                flow.request.method = argument
            case "host":
                flow.request.host = argument
            case "body":
                flow.request.text = argument
            case "header":
                name, _, value = argument.partition("=")
                flow.request.headers[name] = value.encode().decode("unicode_escape")
            case "drop":
                del flow.request.headers[argument]
            case "answer":
                flow.response = http.Response.make(int(argument), b"from an addon", {"x-own": "1"})
            case "answer-bytes":
                flow.response = http.Response.make(200, b"x", {"x-own": "a\r\nb"})
            case "edit-answer":
                flow.response.text = "edited"
            case "kill":
                flow.kill()
            case "hold":
                flow.intercept()


def requestheaders(flow):
    _act("requestheaders", flow)


def request(flow):
    _act("request", flow)


def responseheaders(flow):
    _act("responseheaders", flow)


async def response(flow):
    await asyncio.sleep(0)
    _act("response", flow)


def error(flow):
    _act("error", flow)


def websocket_start(flow):
    _act("websocket_start", flow)


def websocket_message(flow):
    _act("websocket_message", flow)


def websocket_end(flow):
    _act("websocket_end", flow)
