"""Coding agents as npm has them, in a network namespace where nothing is but loopback.

    python -m tests.sdks.alone FOLDER      run by `unshare --net --mount`; prints JSON

Fake providers, a proxy, and `lmk run -- AGENT` for each agent, as on a client's machine that has a
file with a local key. Whatever an agent would send to another host is seen: names that it looks up
(a name server that knows none), and addresses that it connects to (all of IPv4 is routed to
loopback, where the ports of the web are listened to).
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from llamakey_addon.serve import envfile
from llamakey_addon.store import open_store
from tests import harness
from tests.fakes import World
from tests.fakes.wire import Request
from tests.starts import BIN, ROOT

NODE_BIN = ROOT / ".sdks" / "node" / "node_modules" / ".bin"
PROMPT = "Say hello."
LIMIT_S = 100

RUNS: dict[str, tuple[str, ...]] = {
    "claude": ("claude", "-p", PROMPT),
    "claude-context": ("claude", "-p", "/context"),
    "codex": ("codex", "exec", "--skip-git-repo-check", PROMPT),
    "codex-sse": (
        *("codex", "exec", "--skip-git-repo-check"),
        *("-c", "model_providers.llamakey.supports_websockets=false", PROMPT),
    ),
}


@dataclass(slots=True)
class Strays:
    """What went, or would have gone, to another host."""

    names: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)

    def take(self) -> list[str]:
        """Those of one run."""
        found = [*self.names, *self.addresses]
        self.names.clear()
        self.addresses.clear()
        return found


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of one run."""

    code: int
    out: str
    err: str
    seen: list[dict[str, Any]]
    """Requests as the fakes got them."""
    rows: list[dict[str, Any]]
    """Of the ledger."""
    strays: list[str]
    home: list[str]
    """Files in the user's own home that the run has made or changed, and what it was given."""


def command(folder: Path) -> list[str]:
    """The command for this module in a namespace; empty where the system gives none."""
    python = [sys.executable, "-m", "tests.sdks.alone", str(folder)]
    for options in (["--net", "--mount"], ["--map-root-user", "--net", "--mount"]):
        unshare = ["unshare", *options]
        probe = "ip link set lo up && mount --bind /etc/hostname /etc/resolv.conf"
        with contextlib.suppress(OSError):
            tried = subprocess.run(
                [*unshare, "sh", "-c", probe], capture_output=True, check=False, timeout=30
            )
            if tried.returncode == 0:
                return [*unshare, *python]
    return []


def _isolate(folder: Path) -> Strays:
    strays = Strays()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["ip", "route", "add", "local", "default", "dev", "lo"], check=True)
    resolver = folder / "resolv.conf"
    resolver.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    resolver.chmod(0o644)
    subprocess.run(["mount", "--bind", str(resolver), "/etc/resolv.conf"], check=True)
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))
    threading.Thread(target=_know_no_name, args=(server, strays.names), daemon=True).start()
    for port in (80, 443):
        listener = socket.create_server(("0.0.0.0", port))
        threading.Thread(target=_note, args=(listener, strays.addresses), daemon=True).start()
    return strays


def _know_no_name(server: socket.socket, names: list[str]) -> None:
    while True:
        query, sender = server.recvfrom(4096)
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode("latin-1"))
            at += 1 + query[at]
        names.append(".".join(labels))
        # NXDOMAIN, with the question as it came
        counts = b"\x00\x01" + bytes(6)
        server.sendto(query[:2] + b"\x81\x83" + counts + query[12 : at + 5], sender)


def _note(listener: socket.socket, addresses: list[str]) -> None:
    while True:
        connection, _ = listener.accept()
        addresses.append(":".join(map(str, connection.getsockname())))
        connection.close()


def _client(folder: Path, proxy: harness.Proxy) -> dict[str, str]:
    """A client's machine: its environment. It has settings of its own that must not be touched."""
    home = folder / "client"
    for path in (home / "work", home / ".codex", home / ".claude"):
        path.mkdir(parents=True)
    (home / ".codex" / "config.toml").write_text('model = "gpt-6.2-sol"\nmodel_provider = "corp"\n')
    (home / ".codex" / "auth.json").write_text('{"OPENAI_API_KEY": "sk-of-the-user"}')
    (home / ".claude" / "settings.json").write_text('{"model": "claude-opus-4-8"}')
    text = (proxy.folder / envfile.FILE_NAME).read_text()
    (home / "work" / envfile.FILE_NAME).write_text(text)
    kept = {name: os.environ[name] for name in ("LANG", "TMPDIR") if name in os.environ}
    return kept | {
        "PATH": os.pathsep.join([str(NODE_BIN), str(BIN), os.environ["PATH"]]),
        "HOME": str(home),
        "LLAMAKEY_HOME": str(home / "lmk"),
        "PYTHONPATH": str(ROOT),
        # what a user may have set for other uses
        "ANTHROPIC_API_KEY": "sk-ant-of-the-user",
        "OPENAI_API_KEY": "sk-of-the-user",
    }


def _settings(home: Path) -> dict[str, bytes]:
    names = (".codex/config.toml", ".codex/auth.json", ".claude/settings.json")
    return {name: (home / name).read_bytes() for name in names}


def _request(request: Request) -> dict[str, Any]:
    names = ("anthropic-version", "anthropic-beta", "x-claude-code-session-id", "session-id")
    return {
        "family": request.family,
        "method": request.method,
        "target": request.target,
        "status": request.status,
        "credential": request.credential,
        "headers": {name: request.header(name) for name in names if request.header(name)},
    }


def _doctor(environ: Mapping[str, str], strays: Strays) -> dict[str, Any]:
    """What `lmk doctor` finds of the agents, and where they went for it."""
    strays.take()
    done = subprocess.run(
        [str(BIN / "lmk"), "doctor", "--json", "--for", "claude-code,codex"],
        cwd=Path(environ["HOME"]) / "work",
        env=dict(environ),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    found = {"code": done.returncode, "out": done.stdout, "err": done.stderr}
    return {**found, "strays": strays.take()}


def _run(
    words: Sequence[str],
    environ: Mapping[str, str],
    proxy: harness.Proxy,
    strays: Strays,
) -> Ran:
    world, home = proxy.world, Path(environ["HOME"])
    before, since, begun_s = _settings(home), world.mark(), time.time()
    strays.take()
    done = subprocess.run(
        [str(BIN / "lmk"), "run", "--", *words],
        cwd=home / "work",
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=LIMIT_S,
        check=False,
    )
    seen = world.requests(since=since)
    for _ in harness._ticks(10):
        with open_store(proxy.home) as store:
            rows = list(store.ledger.rows(begun_s, time.time() + 1))
        if not any(row.open for row in rows):
            break
    changed = [name for name, content in _settings(home).items() if content != before[name]]
    return Ran(
        done.returncode,
        done.stdout.decode(errors="replace"),
        done.stderr.decode(errors="replace"),
        [_request(request) for request in seen],
        [row.facts._asdict() for row in rows],
        strays.take(),
        changed,
    )


def main(folder: Path) -> None:
    strays = _isolate(folder)
    with World(folder) as world:
        (folder / "proxy").mkdir()
        proxy = harness.start(world, folder / "proxy", anew=True)
        try:
            for _ in harness._ticks(10):
                if (proxy.folder / envfile.FILE_NAME).exists():
                    break
            environ = _client(folder, proxy)
            present = {id: words for id, words in RUNS.items() if (NODE_BIN / words[0]).exists()}
            found = {
                id: asdict(_run(words, environ, proxy, strays)) for id, words in present.items()
            }
            doctor = _doctor(environ, strays)
        finally:
            proxy.stop()
        result = {
            "runs": found,
            "doctor": doctor,
            "violations": world.violations,
            "leaks": proxy.leaks(),
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
