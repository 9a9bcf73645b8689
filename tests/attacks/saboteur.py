"""A script for mitmproxy that breaks the proxy from inside, by command.

It listens on the unix socket that SABOTEUR names, and takes a JSON object a line:

    {"break": "module:Attribute.path", "kind": "MemoryError", "times": 1, "secret": true}
                                        it raises; the error's text holds a real key
    {"mend": true}                      everything is as it was
    {"set": {"option": value}}          mitmproxy's options, as a page or another addon sets them
    {"get": "option"}

and answers each with `{"ok": …}` or `{"error": "…"}`.
"""

import asyncio
import functools
import importlib
import inspect
import json
import os
from collections.abc import Callable

from mitmproxy import ctx

KINDS = {
    "Exception": Exception,
    "RecursionError": RecursionError,
    "MemoryError": MemoryError,
    "CancelledError": asyncio.CancelledError,
    "SystemExit": SystemExit,
}
BROKEN: list[Callable[[], None]] = []


def break_(where, kind, times, secret):
    """Makes a function raise, the next `times` times that it is called."""
    module, _, path = where.partition(":")
    owner = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    whole = inspect.getattr_static(owner, name)
    inherited = name not in owner.__dict__
    left = [times]

    def mend():
        if not inherited:
            setattr(owner, name, whole)
        elif name in owner.__dict__:
            delattr(owner, name)

    def fail():
        left[0] -= 1
        if left[0] == 0:
            mend()
        key = os.environ["OPENAI_API_KEY"] if secret else "no key"
        raise KINDS[kind](f"sabotage of {where} with {key}")

    if asyncio.iscoroutinefunction(whole):

        @functools.wraps(whole)
        async def broken(*args, **kwargs):
            fail()

    else:

        @functools.wraps(whole)
        def broken(*args, **kwargs):
            fail()

    BROKEN.append(mend)
    setattr(owner, name, broken)
    return "broken"


def obey(order):
    if "break" in order:
        return break_(order["break"], order["kind"], order["times"], order["secret"])
    if "mend" in order:
        while BROKEN:
            BROKEN.pop()()
        return "mended"
    if "set" in order:
        ctx.options.update(**order["set"])
        return "set"
    if "get" in order:
        return getattr(ctx.options, order["get"])
    raise ValueError(f"no such order: {order}")


async def serve(reader, writer):
    while line := await reader.readline():
        try:
            answer = {"ok": obey(json.loads(line))}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        writer.write(json.dumps(answer).encode() + b"\n")
        await writer.drain()
    writer.close()


def load(loader):
    loop = asyncio.get_running_loop()
    work = asyncio.start_unix_server(serve, os.environ["SABOTEUR"])
    loader.master.saboteur = loop.create_task(work)
