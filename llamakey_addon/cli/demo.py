"""`lmk demo`: a fake provider, the real proxy, and a call of a fresh process that knows nothing but
its environment; then what each of them saw, side by side."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import llamakey_addon
from llamakey_addon import keys
from llamakey_addon.cli.demo_parts import Provider, Seen, Tap
from llamakey_addon.errors import LlamaKeyError
from llamakey_addon.serve import envfile
from llamakey_addon.serve import show as showing

REAL_KEY = "sk-demo-the-REAL-key"
"""What plays the real key."""

_START_S = 60.0
_CALL_S = 60.0
_LOG_S = 5.0

SDK_PROGRAM = """\
from openai import OpenAI

client = OpenAI()  # its address and its key stand in the environment
hello = [{"role": "user", "content": "Say hello."}]
ask = {"model": "demo-model", "messages": hello}

answer = client.chat.completions.create(**ask)
print(answer.choices[0].message.content)

for chunk in client.chat.completions.create(**ask, stream=True):
    print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
"""

PLAIN_PROGRAM = """\
import json, os
from urllib.request import Request, urlopen

hello = [{"role": "user", "content": "Say hello."}]
url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
headers = {
    "Authorization": "Bearer " + os.environ["OPENAI_API_KEY"],
    "Content-Type": "application/json",
}

def call(**more):
    body = {"model": "demo-model", "messages": hello, **more}
    return urlopen(Request(url, json.dumps(body).encode(), headers))

print(json.load(call())["choices"][0]["message"]["content"])

for line in call(stream=True):
    if line.startswith(b"data: {"):
        choice = json.loads(line[6:])["choices"][0]
        print(choice["delta"]["content"], end="", flush=True)
print()
"""


class DemoFailed(LlamaKeyError):
    """The demo did not come to its end; the message has what was printed."""


@dataclass(frozen=True, slots=True)
class Seens:
    """What came of it."""

    environment: list[str]
    printed: list[str]
    client: list[Seen]
    sent: bytes
    provider: list[Seen]
    log: list[dict[str, object]]
    local_key: str


def demo() -> int:
    """Run the demo and print it; 0 when every key was where it belongs."""
    sdk = importlib.util.find_spec("openai") is not None
    showing.heading("LlamaKey demo", sys.stdout)
    showing.prose("Starting a fake provider over TLS, and the proxy in front of it …", sys.stdout)
    program = SDK_PROGRAM if sdk else PLAIN_PROGRAM
    started_s = time.monotonic()
    seen = play(program)
    from llamakey_addon.cli import demo_show

    demo_show.show(program, seen, sys.stdout)
    if not sdk:
        showing.prose(
            "The call was made with Python's standard library. To see it made by a real SDK: "
            "pip install 'llamakey[demo]'",
            sys.stdout,
        )
    failed = demo_show.verdict(seen, sys.stdout)
    took_s = time.monotonic() - started_s
    showing.prose(f"That took {took_s:.1f} s and left nothing behind.", sys.stdout)
    showing.prose("With a key of your own: export OPENAI_API_KEY=…, then: lmk", sys.stdout)
    return 1 if failed else 0


def play(program: str, python: str = sys.executable) -> Seens:
    """Run `program` by this Python as a client of the proxy, and gather what each side saw.

    Raises DemoFailed.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="llamakey-demo-")))
        provider = Provider(REAL_KEY, folder)
        stack.callback(provider.close)
        tap = Tap()
        stack.callback(tap.close)
        proxy_url, local_key = stack.enter_context(_proxy(folder, provider))
        tap.start(int(proxy_url.rpartition(":")[2]))
        # The client is sent by way of the tap; everything else is as in the file.
        lines = [
            line.replace(proxy_url, f"http://127.0.0.1:{tap.port}")
            for line in (folder / envfile.FILE_NAME).read_text().splitlines()
            if line.startswith("export OPENAI_") and "_API_BASE" not in line
        ]
        environ = _bare_environment(folder)
        environ |= dict(line.removeprefix("export ").split("=", 1) for line in lines)
        printed = _call(program, environ, folder, python)
        return Seens(
            environment=[keys.redact(line) for line in lines],
            printed=printed,
            client=tap.seen,
            sent=tap.sent,
            provider=provider.seen,
            log=_log(folder / "log.jsonl", len(provider.seen)),
            local_key=local_key,
        )


@contextlib.contextmanager
def _proxy(folder: Path, provider: Provider) -> Iterator[tuple[str, str]]:
    """The proxy as anybody would start it, in an empty folder: its URL and the local key."""
    config = folder / "config.yaml"
    upstream = {"upstream": f"https://localhost:{provider.port}", "ca": str(provider.ca)}
    # JSON is YAML.
    config.write_text(
        json.dumps({"providers": {"openai": upstream}, "logging": {"file": "log.jsonl"}})
    )
    environ = _bare_environment(folder)
    environ |= {"OPENAI_API_KEY": REAL_KEY, "LLAMAKEY_HOME": str(folder / "data")}
    with (folder / "output.txt").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "llamakey_addon", "serve", "--listen", "localhost:0"],
            cwd=folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        text = _wait_for(process, folder)
        yield envfile.find_url(text), envfile.find_keys(text)[0]
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(process: subprocess.Popen[bytes], folder: Path) -> str:
    """The environment file of a proxy that has begun to answer."""
    end_s = time.monotonic() + _START_S
    file = folder / envfile.FILE_NAME
    while process.poll() is None and time.monotonic() < end_s:
        text = file.read_text() if file.exists() else ""
        url = envfile.find_url(text)
        if url and _healthy(url):
            return text
        time.sleep(0.05)
    output = (folder / "output.txt").read_text(errors="replace")
    raise DemoFailed(f"The proxy did not start. It printed:\n{keys.redact(output)}")


def _healthy(url: str) -> bool:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=2)
    try:
        connection.request("GET", "/_llamakey/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _call(program: str, environ: Mapping[str, str], folder: Path, python: str) -> list[str]:
    """What the client's program printed."""
    try:
        done = subprocess.run(  # noqa: S603  one of the two programs above
            [python, "-c", program],
            cwd=folder,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_CALL_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DemoFailed(f"The client got no answer within {_CALL_S:.0f} s.") from None
    if done.returncode:
        raise DemoFailed(f"The client failed. It printed:\n{keys.redact(done.stderr)}")
    return done.stdout.splitlines()


def _log(path: Path, wanted: int) -> list[dict[str, object]]:
    """The log's lines; a request's is written when all of it is over."""
    end_s = time.monotonic() + _LOG_S
    while True:
        lines = path.read_text().splitlines() if path.exists() else []
        records = [record for record in map(json.loads, lines) if "id" in record]
        if len(records) >= wanted or time.monotonic() > end_s:
            return records
        time.sleep(0.02)


def _bare_environment(folder: Path) -> dict[str, str]:
    """What a process needs to run, and no key of anybody's."""
    kept = ("PATH", "SYSTEMROOT", "LANG", "LC_ALL", "VIRTUAL_ENV", "TZ", "PYTHONHOME")
    environ = {name: os.environ[name] for name in kept if name in os.environ}
    package = str(Path(llamakey_addon.__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH", ""))))
    return {
        **environ,
        "HOME": str(folder),
        "PYTHONPATH": path,
        "PYTHONUTF8": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
