"""A real proxy process for a test: started on a free port, pointed at the fakes, searched for keys.

Every provider's `upstream:` is its fake and every real key a canary, so that a key that stands in
any output, log or file of the proxy is found, whatever way it was written (`canary.forms`).
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

import yaml

from llamakey_addon import certificates
from llamakey_addon.tokens import traces
from tests import canary, starts
from tests.fakes import World, aws, google, tokens
from tests.fakes.families import FAMILIES
from tests.starts import BIN, ROOT, Process

type Mode = Literal["lmk", "mitmdump", "mitmweb"]

SCRIPT = ROOT / "llamakey_addon" / "script.py"
START_S = 60
STOP_S = 60

KEY_VARIABLES = {
    "ai21": "AI21_API_KEY",
    "bedrock": "AWS_SECRET_ACCESS_KEY",
    "anthropic": "ANTHROPIC_API_KEY",
    "anyscale": "ANYSCALE_API_KEY",
    "assemblyai": "ASSEMBLYAI_API_KEY",
    "azure": "AZURE_OPENAI_API_KEY",
    "cerebras": "CEREBRAS_API_KEY",
    "cohere": "CO_API_KEY",
    "deepgram": "DEEPGRAM_API_KEY",
    "deepseek": "DEEPSEEK_API_KEY",
    "elevenlabs": "ELEVENLABS_API_KEY",
    "fal": "FAL_KEY",
    "fireworks": "FIREWORKS_API_KEY",
    "gemini": "GEMINI_API_KEY",
    "groq": "GROQ_API_KEY",
    "huggingface": "HF_TOKEN",
    "jina": "JINA_API_KEY",
    "mistral": "MISTRAL_API_KEY",
    "nvidia": "NVIDIA_API_KEY",
    "ollama": "OLLAMA_API_KEY",
    "openai": "OPENAI_API_KEY",
    "openrouter": "OPENROUTER_API_KEY",
    "pinecone": "PINECONE_API_KEY",
    "perplexity": "PERPLEXITY_API_KEY",
    "replicate": "REPLICATE_API_TOKEN",
    "stability": "STABILITY_API_KEY",
    "together": "TOGETHER_API_KEY",
    "vectara": "VECTARA_API_KEY",
    "voyage": "VOYAGE_API_KEY",
    "writer": "WRITER_API_KEY",
    "xai": "XAI_API_KEY",
}
"""Where each provider's own documentation tells an owner to put the key."""


class StartFailed(Exception):
    """The proxy ended, or did not answer, before it was ready. The message has its output."""

    def __init__(self, proxy: Proxy, reason: str) -> None:
        self.exit_code = proxy.process.poll()
        self.output = proxy.output()
        super().__init__(f"{reason} (exit code {self.exit_code})\n{self.output}")


@dataclass(slots=True)
class Proxy:
    """A running proxy."""

    mode: Mode
    folder: Path
    """Everything that it may write: working folder, HOME, LLAMAKEY_HOME, logs."""
    port: int
    process: Process
    world: World
    stdout: IO[bytes]
    web_port: int = 0
    web_token: str = ""
    local_key: str = ""
    """A key of the user `alice`."""
    keys: list[str] = field(default_factory=list)
    """All local keys that this harness minted."""
    stopped: bool = False
    scheme: str = "http"
    _lines: list[dict[str, Any]] = field(default_factory=list)
    _read_bytes: int = 0

    @property
    def url(self) -> str:
        return f"{self.scheme}://localhost:{self.port}"

    @property
    def home(self) -> Path:
        return self.folder / "data"

    @property
    def log_path(self) -> Path:
        return self.folder / "requests.jsonl"

    def mint(self, user: str, name: str = "") -> str:
        """A further local key, known to the running proxy from its next request on."""
        key = mint(self.home, user, name)
        self.keys.append(key)
        self.world.forbid(key)
        return key

    def log(self) -> list[dict[str, Any]]:
        """The lines of its log file; those that were read before are not read again."""
        if self.log_path.exists():
            with self.log_path.open("rb") as file:
                file.seek(self._read_bytes)
                whole, newline, _ = file.read().rpartition(b"\n")
            self._lines += map(json.loads, whole.splitlines())
            self._read_bytes += len(whole) + len(newline)
        return list(self._lines)

    def wait_for_log(
        self, since: int = 0, timeout_s: float = 10, **fields: object
    ) -> dict[str, Any]:
        """The first log line from `since` on with these fields.

        Waits for it, since a line is written when all is over.
        """
        for _ in _ticks(timeout_s):
            for line in self.log()[since:]:
                if fields.items() <= line.items():
                    return line
        raise TimeoutError(f"no line with {fields} in {self.log()}")

    def output(self) -> str:
        """What it printed so far, standard output and error together."""
        return (self.folder / "output.txt").read_text(errors="replace")

    def wait_for_output(self, text: str, timeout_s: float = 10) -> str:
        for _ in _ticks(timeout_s):
            if text in self.output():
                return self.output()
        raise TimeoutError(f"{text!r} was not printed:\n{self.output()}")

    def healthy(self) -> bool:
        """Whether `GET /_llamakey/health` answers 200."""
        connection = http.client.HTTPConnection("localhost", self.port, timeout=5)
        if self.scheme == "https":
            # whether it is up, not who it is: the tests of TLS verify
            anybody = ssl.create_default_context()
            anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
            connection = http.client.HTTPSConnection(
                "localhost", self.port, timeout=5, context=anybody
            )
        try:
            connection.request("GET", "/_llamakey/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def stop(self) -> int:
        """SIGTERM, then waits for the end; returns the exit code. May be called twice."""
        if not self.stopped:
            self.stopped = True
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"no end {STOP_S} s after SIGTERM:\n{self.output()}") from None
            finally:
                self.stdout.close()
        return self.process.wait()

    def leaks(self) -> list[str]:
        """Where a real key, or a whole local key, stands in what the proxy printed or wrote.

        The one file that may hold a local key is `llamakey_local.env`.
        """
        real = [*self.world.keys.values(), *tokens.every(), google.canary()]
        found = canary.find_in_folder(self.folder, real)
        for path in sorted(self.folder.rglob("*")):
            if path.is_file() and not path.is_symlink() and path.name != "llamakey_local.env":
                content = path.read_bytes()
                found += [f"{path}: {key}" for key in canary.find(content, self.keys)]
                derived = traces(content)
                found += [f"{path}: {content[each.at : each.end]!r}" for each in derived]
        return found


def mint(home: Path, user: str, name: str = "") -> str:
    """Adds a local key to the store in `home`, and returns it."""
    from llamakey_addon.keys import mint as mint_key
    from llamakey_addon.store import open_store

    minted = mint_key()
    with open_store(home) as store:
        store.add_key(name or f"{user}-{minted.id}", user, minted)
    return minted.text


def revoke(home: Path, key: str) -> None:
    """Revokes a key in the store, as another process than the proxy."""
    from llamakey_addon.store import open_store

    with open_store(home) as store:
        store.revoke(key)


def start(
    world: World,
    folder: Path,
    mode: Mode = "lmk",
    *,
    config: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
    args: Sequence[str] = (),
    own_tls: bool = False,
    ready: bool = True,
    anew: bool = False,
) -> Proxy:
    """Starts a proxy and returns when it answers.

    Arguments:
        folder: empty; the proxy's working folder and all that it writes are in it.
        config: merged into the config.yaml that `base_config` makes; None takes a setting out.
        env: merged into its environment; an empty value takes a variable out.
        args: further arguments of the command.
        own_tls: as after `lmk tls`; its port then speaks both TLS and plain HTTP.
        ready: False returns at once, for a start that is expected to fail or to take long.
        anew: by an interpreter of its own, from the first import on.

    Raises StartFailed.
    """
    for attempt in range(3):
        place = folder / f"start{attempt}" if attempt else folder
        proxy = _start(world, place, mode, config or {}, env or {}, args, own_tls, anew)
        if not ready:
            return proxy
        try:
            _wait_until_ready(proxy)
            return proxy
        except StartFailed as failure:
            proxy.stop()
            # somebody took the port between our look and the proxy's start
            if attempt == 2 or "in use" not in failure.output:
                raise
    raise AssertionError("unreachable")


def _start(
    world: World,
    folder: Path,
    mode: Mode,
    config: Mapping[str, Any],
    env: Mapping[str, str],
    args: Sequence[str],
    own_tls: bool,
    anew: bool,
) -> Proxy:
    home, data = folder / "home", folder / "data"
    for path in (home, data):
        path.mkdir(parents=True, exist_ok=True)
    if own_tls:
        certificates.ensure(certificates.place_in(data), certificates.OWN_NAMES)
    port = free_port()
    settings = merged(base_config(world, port), config)
    (folder / "config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    key = mint(data, "alice")
    world.forbid(key)
    web_port = free_port() if mode == "mitmweb" or "--web" in args else 0
    output = (folder / "output.txt").open("wb")
    process = starts.start(
        [*_command(mode, web_port), *args],
        cwd=folder,
        env=_environment(world, home, data, env),
        stdout=output,
        stderr=output,
        anew=anew,
    )
    scheme = "https" if settings.get("tls") else "http"
    token = WEB_TOKEN if web_port else ""
    proxy = Proxy(mode, folder, port, process, world, output, web_port, token, key, scheme=scheme)
    proxy.keys.append(key)
    return proxy


WEB_TOKEN = "web-token-of-the-tests"


def _command(mode: Mode, web_port: int) -> list[str]:
    if mode == "lmk":
        return [str(BIN / "lmk"), "serve"]
    # `confdir` comes from HOME, so that nothing of the person who runs the tests is read
    command = [str(BIN / mode), "-s", str(SCRIPT)]
    if mode == "mitmweb":
        command += ["--web-port", str(web_port), "--no-web-open-browser"]
        command += ["--set", f"web_password={WEB_TOKEN}"]
    return command


def _environment(world: World, home: Path, data: Path, env: Mapping[str, str]) -> dict[str, str]:
    kept = ("PATH", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT")
    result = {name: os.environ[name] for name in kept if name in os.environ}
    # measured runs follow the processes that they start
    result |= {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    result |= {"HOME": str(home), "LLAMAKEY_HOME": str(data), "PYTHONUNBUFFERED": "1"}
    # those of tests/cli and tests/serve have the other loop
    result |= {"PYTHONPATH": str(ROOT), "LLAMAKEY_LOOP": "asyncio"}
    result |= {key_variable(family): world.key(family) for family in FAMILIES}
    result |= {"AWS_ACCESS_KEY_ID": aws.ACCESS_KEY, "AWS_REGION": aws.REGION}
    result |= {"AWS_EC2_METADATA_DISABLED": "true"}
    result |= env
    return {name: value for name, value in result.items() if value}


def key_variable(family: str) -> str:
    """Where the owner has this provider's key; one of the test's for those that share theirs."""
    return KEY_VARIABLES.get(family, f"FAKE_{family.upper().replace('-', '_')}_KEY")


def base_config(world: World, port: int) -> dict[str, Any]:
    """config.yaml of a test: each catalogued provider at its fake, and a log file.

    Everybody may do everything, but the user `bob`, who may only GET.
    """
    from llamakey_addon.catalogue import load

    providers: dict[str, dict[str, object]] = {
        id: {"upstream": world.origin(id), "ca": str(world.ca)}
        for id in load().entries
        if id in FAMILIES
    }
    providers["vertex"]["login"] = {"credentials": f"file:{world.service_account}"}
    # both have the one AWS_SECRET_ACCESS_KEY
    world.set_key("bedrock-control", world.key("bedrock"))
    for id in providers.keys() - KEY_VARIABLES.keys() - {"vertex", "bedrock-control"}:
        providers[id]["key"] = f"env:{key_variable(id)}"
    return {
        "listen": f"localhost:{port}",
        "contact": "ops@corp.example",
        "logging": {"file": "requests.jsonl"},
        # nothing is opened ahead: each proxy would shake hands with every fake
        "limits": {"drain_timeout_s": 3.0, "pool_warm": 0},
        "providers": providers,
        "users": {"bob": {"allow": [{"methods": ["GET"]}]}},
        # The fakes have files and the like that nobody made.
        "isolation": {"unowned": "allow"},
    }


def merged(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `change` merged in, mappings by key; a value of None takes the key out."""
    result = dict(base)
    for name, value in change.items():
        if isinstance(value, Mapping) and isinstance(result.get(name), Mapping):
            result[name] = merged(result[name], value)
        elif value is None:
            result.pop(name, None)
        else:
            result[name] = value
    return result


def _wait_until_ready(proxy: Proxy) -> None:
    for _ in _ticks(START_S):
        if proxy.process.poll() is not None:
            raise StartFailed(proxy, "the proxy ended before it was ready")
        if proxy.healthy():
            return
    raise StartFailed(proxy, f"the proxy did not answer within {START_S} s")


PATIENCE_S = 45
"""What is waited for comes at once, on a machine that has time. The limit is for what never comes,
and so is every other one of the tests: they may be longer, and say nothing of how fast we are."""


def _ticks(timeout_s: float) -> Iterator[None]:
    """Turns of a wait, 20 ms apart, until the time is over (never sooner than `PATIENCE_S`)."""
    end = time.monotonic() + max(timeout_s, PATIENCE_S)
    while time.monotonic() < end:
        yield
        time.sleep(0.02)


def free_port() -> int:
    """A port that nobody has, from below the range in which systems choose ports by themselves."""
    chance = random.SystemRandom()
    while True:
        port = chance.randrange(15_000, 32_000)
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for kind, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
                try:
                    probe = stack.enter_context(socket.socket(kind, socket.SOCK_STREAM))
                except OSError:
                    continue  # no IPv6 here
                probe.bind((host, port))
            return port
