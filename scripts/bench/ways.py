"""Ways to one upstream on this machine: direct, LlamaKey, and other proxies.

Each way is started with its own folder below a temporary one, ends with the `with` block, and knows
how much processor time and memory its processes have taken. All of them answer the same request:
a chat completion, which each is asked for in its own manner.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trustme
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from scripts.bench import rivals  # noqa: E402
from scripts.bench.rivals import NotSetUp  # noqa: E402

BIN = Path(sys.executable).parent
MODEL = "gpt-4o-mini"
REAL = "sk-real-" + "r" * 40
LOCAL = "sk-local-" + "l" * 40
"""What other proxies take for a local key, where they know such a thing. LlamaKey makes its own."""
PATH = "/v1/chat/completions"
SMALL, LARGE = 230, 50_000
"""Characters of the message: requests of some 300 bytes, and of 50 KB."""
ANSWER = json.dumps(
    {
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "created": 1700000000,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "y" * 300},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 60, "completion_tokens": 75, "total_tokens": 135},
    }
)
START_S = 90

STOCK = f"""\
from mitmproxy import http

def request(flow):
    if flow.request.headers.get("authorization") != "Bearer {LOCAL}":
        flow.response = http.Response.make(401)
        return
    flow.request.headers["authorization"] = "Bearer {REAL}"
    flow.request.path = flow.request.path.removeprefix("/openai")

def responseheaders(flow):
    flow.response.stream = True
"""

#: Everything that LlamaKey can do to a request of one of two people.
EVERYTHING: dict[str, Any] = {
    "users": {
        "alice": {
            "team": "research",
            "allow": [{"providers": ["openai"], "models": [MODEL, "gpt-5*"]}],
            "limits": [
                {"tokens": 1_000_000_000_000, "per": "day"},
                {"concurrent": 100_000},
            ],
            "budgets": [
                {"spend": 1_000_000, "per": "day"},
                {"spend": 9_000_000, "per": "month"},
            ],
        },
        "bob": {},
    },
    "teams": {"research": {"limits": [{"requests": 1_000_000_000, "per": "minute"}]}},
}


def body(characters: int, **more: Any) -> bytes:
    words = "What would you say to that? " * (characters // 28 + 1)
    message = {"role": "user", "content": words[:characters]}
    return json.dumps({"model": MODEL, "messages": [message], "max_tokens": 99, **more}).encode()


# --- processes ------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _stat(pid: int) -> list[str]:
    """What follows the name in /proc/PID/stat; empty where it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def tree(pid: int) -> list[int]:
    """A process and what it has started."""
    parents: dict[int, list[int]] = {}
    for each in Path("/proc").iterdir():
        if each.name.isdigit() and (fields := _stat(int(each.name))):
            parents.setdefault(int(fields[1]), []).append(int(each.name))
    found = [pid]
    for each_pid in found:
        found += parents.get(each_pid, [])
    return found


@dataclass(slots=True)
class Way:
    """One way to the upstream."""

    name: str
    port: int
    path: str
    headers: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None
    alone: bool = False
    """Its process alone counts, not what that has started."""
    inside: tuple[str, ...] = ()
    """What a client's command begins with, where it must run in the proxy's own network."""
    folder: Path | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def pids(self) -> list[int]:
        if self.process is None:
            return []
        return [self.process.pid] if self.alone else tree(self.process.pid)

    def cpu_s(self) -> float:
        """Processor time that the proxy has taken until now; NaN for the direct way."""
        if self.process is None:
            return float("nan")
        ticks = 0
        for pid in self.pids:
            if fields := _stat(pid):
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def rss_mb(self) -> float:
        """Memory that stands in RAM, of all its processes."""
        return self._memory_mb("VmRSS")

    def peak_mb(self) -> float:
        return self._memory_mb("VmHWM")

    def reset_peak(self) -> None:
        for pid in self.pids:
            with contextlib.suppress(OSError):
                Path(f"/proc/{pid}/clear_refs").write_text("5")

    def _memory_mb(self, name: str) -> float:
        total = 0
        for pid in self.pids:
            with contextlib.suppress(OSError):
                found = re.search(rf"{name}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
                total += int(found[1]) if found else 0
        return total / 1024

    def request(self, content: bytes, path: str = "", **headers: str) -> bytes:
        """Bytes of a POST on a kept connection."""
        fields = {
            "Host": f"127.0.0.1:{self.port}",
            "Content-Type": "application/json",
            "Accept": "application/json",
            "User-Agent": "bench",
            **self.headers,
            "Content-Length": str(len(content)),
            **headers,
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"POST {path or self.path} HTTP/1.1\r\n{lines}\r\n".encode() + content


@contextlib.contextmanager
def child(command: Sequence[str], folder: Path, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process, in a session of its own, which is ended as a whole."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**kept, "HOME": str(folder), **env},
        stdin=subprocess.DEVNULL,
        stdout=(folder / "output.txt").open("wb"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        group = process.pid
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            pass
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        process.wait()


def until_it_answers(way: Way, every_s: float = 0.05) -> None:
    """Wait until the way's own request is answered. Raises NotSetUp."""
    content = body(SMALL)
    end_s = time.monotonic() + START_S
    last = "no answer"
    while time.monotonic() < end_s and (way.process is None or way.process.poll() is None):
        if not way.inside:
            connection = http.client.HTTPConnection("127.0.0.1", way.port, timeout=20)
            try:
                fields = {"Content-Type": "application/json", **way.headers}
                connection.request("POST", way.path, content, fields)
                answer = connection.getresponse()
                told = answer.read()
                if answer.status == 200:
                    return
                last = f"{answer.status} {told[:300]!r}"
            except (OSError, http.client.HTTPException) as error:
                last = str(error)
            finally:
                connection.close()
        else:
            asked = [*way.inside, "curl", "-s", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}"]
            for name, value in {"Content-Type": "application/json", **way.headers}.items():
                asked += ["-H", f"{name}: {value}"]
            asked += ["--data-binary", content.decode(), f"http://127.0.0.1:{way.port}{way.path}"]
            told = subprocess.run(asked, capture_output=True, check=False).stdout
            if told == b"200":
                return
            last = f"status {told.decode()}"
        time.sleep(every_s)
    output = ""
    if way.folder is not None:
        output = (way.folder / "output.txt").read_text(errors="replace")[-1500:]
    raise NotSetUp(f"{way.name} did not come up ({last})\n{output}")


def until_healthy(process: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    """Wait until a LlamaKey answers, whatever keys it has."""
    end_s = time.monotonic() + START_S
    while time.monotonic() < end_s and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            connection.request("GET", "/_llamakey/health")
            connection.getresponse().read()
            return
        except OSError:
            time.sleep(0.05)
        finally:
            connection.close()
    raise SystemExit(f"no proxy came up in {folder}")


# --- the upstream ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Upstream:
    """What stands for the provider."""

    port: int
    tls_port: int
    ca: Path
    folder: Path


def _nginx_begin(folder: Path) -> str:
    """The beginning of an nginx's configuration, up to its servers."""
    return f"""\
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600s;
  client_body_buffer_size 128k; client_max_body_size 2g; client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u;
  scgi_temp_path {folder}/s;"""


def _upstream_conf(folder: Path, ports: Sequence[str]) -> str:
    listens = "\n".join(f"    listen {port};" for port in ports)
    tls = (
        f"    ssl_certificate {folder}/cert.pem;\n    ssl_certificate_key {folder}/key.pem;\n"
        "    ssl_protocols TLSv1.2 TLSv1.3;\n"
        if any("ssl" in port for port in ports)
        else ""
    )
    return f"""\
{_nginx_begin(folder)}
  server {{
{listens}
{tls}
    if ($http_authorization != "Bearer {REAL}") {{ return 401 '{{}}'; }}
    default_type application/json;
    location {PATH} {{ return 200 '{ANSWER}'; }}
  }}
}}
"""


def certificates(folder: Path) -> Path:
    """A certificate for this machine and for api.openai.com; where its CA is."""
    ca = trustme.CA()
    leaf = ca.issue_cert("127.0.0.1", "localhost", "api.openai.com")
    leaf.private_key_pem.write_to_path(folder / "key.pem")
    leaf.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    ca.cert_pem.write_to_path(folder / "ca.pem")
    return folder / "ca.pem"


def nginx() -> str:
    found = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if found is None:
        raise SystemExit("nginx is not installed: apt-get install nginx wrk")
    return found


@contextlib.contextmanager
def upstream(top: Path) -> Iterator[Upstream]:
    """nginx, which answers each request that carries the real key."""
    folder = top / "upstream"
    folder.mkdir()
    ca = certificates(folder)
    port, tls_port = free_port(), free_port()
    ports = [f"127.0.0.1:{port}", f"127.0.0.1:{tls_port} ssl"]
    (folder / "nginx.conf").write_text(_upstream_conf(folder, ports))
    with child([nginx(), "-c", str(folder / "nginx.conf"), "-e", "stderr"], folder) as process:
        way = Way("upstream", port, PATH, {"Authorization": f"Bearer {REAL}"}, process)
        way.folder = folder
        until_it_answers(way)
        yield Upstream(port, tls_port, ca, folder)


# --- the ways -------------------------------------------------------------------------------------


@contextlib.contextmanager
def direct(up: Upstream, folder: Path) -> Iterator[Way]:
    yield Way("direct", up.port, PATH, {"Authorization": f"Bearer {REAL}"})


@contextlib.contextmanager
def by_nginx(up: Upstream, folder: Path, *, tls: bool = False) -> Iterator[Way]:
    port = free_port()
    where = f"127.0.0.1:{up.tls_port if tls else up.port}"
    scheme = "https" if tls else "http"
    (folder / "nginx.conf").write_text(f"""\
{_nginx_begin(folder)}
  upstream up {{ server {where}; keepalive 512; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port};
    location /openai/ {{
      if ($http_authorization != "Bearer {LOCAL}") {{ return 401 '{{}}'; }}
      proxy_pass {scheme}://up/; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Authorization "Bearer {REAL}"; proxy_buffering off;
      proxy_ssl_trusted_certificate {up.ca}; proxy_ssl_verify on; proxy_ssl_name localhost;
    }}
  }}
}}
""")
    with child([nginx(), "-c", str(folder / "nginx.conf"), "-e", "stderr"], folder) as process:
        yield Way("nginx", port, f"/openai{PATH}", {"Authorization": f"Bearer {LOCAL}"}, process)


@contextlib.contextmanager
def stock(up: Upstream, folder: Path, *, tls: bool = False) -> Iterator[Way]:
    port = free_port()
    (folder / "swap.py").write_text(STOCK)
    command = [str(BIN / "mitmdump"), "-q", "-s", "swap.py", "--listen-host", "127.0.0.1"]
    target = f"https://localhost:{up.tls_port}" if tls else f"http://127.0.0.1:{up.port}"
    command += ["-p", str(port), "--mode", f"reverse:{target}"]
    command += ["--set", f"ssl_verify_upstream_trusted_ca={up.ca}"]
    with child(command, folder) as process:
        headers = {"Authorization": f"Bearer {LOCAL}"}
        yield Way("stock mitmdump", port, f"/openai{PATH}", headers, process)


@contextlib.contextmanager
def lmk(
    up: Upstream,
    folder: Path,
    *,
    everything: bool = False,
    tls: bool = False,
    arguments: Sequence[str] = (),
    name: str = "",
    config: Mapping[str, Any] | None = None,
) -> Iterator[Way]:
    """LlamaKey as it comes, or with everything on."""
    port = free_port()
    provider: dict[str, Any] = {"upstream": f"http://127.0.0.1:{up.port}"}
    if tls:
        provider = {"upstream": f"https://localhost:{up.tls_port}", "ca": str(up.ca)}
    settings = {
        "listen": f"127.0.0.1:{port}",
        "providers": {"openai": provider},
        **(EVERYTHING if everything else {}),
        **(config or {}),
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    env = {"OPENAI_API_KEY": REAL, "LLAMAKEY_HOME": str(folder / "data")}
    key = ""
    if everything:
        key_of("bob", folder, env)  # so that not all is one person's
        key = key_of("alice", folder, env)
    with child([str(BIN / "lmk"), "serve", *arguments], folder, **env) as process:
        way = Way(name or "lmk", port, f"/openai{PATH}", {}, process, folder=folder)
        way.headers = {"Authorization": f"Bearer {key or _own_key(folder, process)}"}
        yield way


def key_of(user: str, folder: Path, env: Mapping[str, str]) -> str:
    """A key of somebody's, made in the proxy's store where there is none yet."""
    kept = folder / f"key-{user}.txt"
    if not kept.exists():
        command = [str(BIN / "lmk"), "keys", "new", f"{user}-laptop", "--user", user]
        told = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            check=True,
        )
        found = re.search(r"sk-lmk-[\w-]+", told.stdout)
        assert found, told.stdout
        kept.write_text(found[0])
    return kept.read_text()


def _own_key(folder: Path, process: subprocess.Popen[bytes]) -> str:
    """The key that a first start has made."""
    told = folder / "llamakey_local.env"
    end_s = time.monotonic() + START_S
    while not told.exists() and process.poll() is None and time.monotonic() < end_s:
        time.sleep(0.005)
    found = re.search(r"sk-lmk-[\w-]+", told.read_text())
    assert found
    return found[0]


@contextlib.contextmanager
def ferro(up: Upstream, folder: Path) -> Iterator[Way]:
    port = free_port()
    (folder / "config.yaml").write_text(
        "strategy: {mode: single}\ntargets:\n  - virtual_key: openai\n"
    )
    env = {
        "PORT": str(port),
        "GATEWAY_CONFIG": "config.yaml",
        "MASTER_KEY": LOCAL,
        "OPENAI_API_KEY": REAL,
        "OPENAI_BASE_URL": f"http://127.0.0.1:{up.port}",
        "RATE_LIMIT_RPS": "10000000",
        "RATE_LIMIT_BURST": "10000000",
        "LOG_LEVEL": "error",
        "GOMAXPROCS": "1",
    }
    command = [str(rivals.place("ferro") / "bin" / "ferrogw"), "serve"]
    with child(command, folder, **env) as process:
        yield Way("Ferro", port, PATH, {"Authorization": f"Bearer {LOCAL}"}, process)


@contextlib.contextmanager
def portkey(up: Upstream, folder: Path) -> Iterator[Way]:
    port = free_port()
    script = rivals.place("portkey") / "node_modules/@portkey-ai/gateway/build/start-server.js"
    command = ["node", str(script), f"--port={port}", "--headless"]
    headers = {
        "Authorization": f"Bearer {REAL}",  # it has no keys of its own
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": f"http://127.0.0.1:{up.port}/v1",
    }
    with child(command, folder) as process:
        yield Way("Portkey", port, PATH, headers, process)


@contextlib.contextmanager
def litellm(up: Upstream, folder: Path) -> Iterator[Way]:
    port = free_port()
    parameters = {
        "model": f"openai/{MODEL}",
        "api_key": REAL,
        "api_base": f"http://127.0.0.1:{up.port}/v1",
    }
    config = {
        "model_list": [{"model_name": MODEL, "litellm_params": parameters}],
        "general_settings": {"master_key": LOCAL},
        "litellm_settings": {"telemetry": False},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    command = [str(rivals.place("litellm") / "bin" / "litellm"), "--config", "config.yaml"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    env = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    with child(command, folder, **env) as process:
        yield Way("LiteLLM", port, PATH, {"Authorization": f"Bearer {LOCAL}"}, process)


@contextlib.contextmanager
def rust(up: Upstream, folder: Path) -> Iterator[Way]:
    """The LlamaKey of before (Rust). Its port and its upstream, https://api.openai.com, are fixed:
    so it stands in a network of its own, where that name is an nginx beside it."""
    if os.geteuid() or shutil.which("unshare") is None:
        raise NotSetUp("LlamaKey 0.1.4 needs a private network and hosts file: be root, on Linux")
    binary = rivals.place("llamakey") / "bin" / "llamakey"
    ca = certificates(folder)
    (folder / "nginx.conf").write_text(_upstream_conf(folder, ["127.0.0.1:443 ssl"]))
    (folder / "hosts").write_text("127.0.0.1 localhost api.openai.com\n")
    script = (
        f"ip link set lo up && mount --bind {folder}/hosts /etc/hosts && "
        f"({nginx()} -c {folder}/nginx.conf -e stderr &) && exec {binary}"
    )
    command = ["unshare", "--net", "--mount", "sh", "-c", script]
    env = {"OPENAI_API_KEY": REAL, "SSL_CERT_FILE": str(ca), "TOKIO_WORKER_THREADS": "1"}
    with child(command, folder, **env) as process:
        inside = ("nsenter", "-t", str(process.pid), "-n")
        time.sleep(0.5)
        # `/openai` stands for the provider's `/v1`
        yield Way(
            "LlamaKey 0.1.4 (Rust, TLS upstream)",
            8000,
            "/openai/chat/completions",
            {"Authorization": "Bearer LlaMaKey"},
            process,
            alone=True,
            inside=inside,
        )


type Maker = Callable[[Upstream, Path], contextlib.AbstractContextManager[Way]]

OURS: dict[str, Maker] = {
    "lmk bare": lambda up, folder: lmk(up, folder, name="lmk bare"),
    "lmk everything on": lambda up, folder: lmk(
        up, folder, name="lmk everything on", everything=True
    ),
}
OTHERS: dict[str, Maker] = {
    "nginx": by_nginx,
    "stock mitmdump": stock,
    "LlamaKey 0.1.4 (Rust, TLS upstream)": rust,
    "Ferro": ferro,
    "Portkey": portkey,
    "LiteLLM": litellm,
}
ALL: dict[str, Maker] = {"direct": direct, **OURS, **OTHERS}


@contextlib.contextmanager
def temporary() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="llamakey-bench-") as folder:
        yield Path(folder)


@contextlib.contextmanager
def several(
    makers: Mapping[str, Maker], up: Upstream, top: Path
) -> Iterator[tuple[list[Way], dict[str, str]]]:
    """Start ways one after the other; those that came up, and why others did not."""
    lacking: dict[str, str] = {}
    found: list[Way] = []
    with contextlib.ExitStack() as stack:
        for number, (name, make) in enumerate(makers.items()):
            folder = top / f"way-{number}"
            folder.mkdir()
            one = contextlib.ExitStack()
            try:
                way = one.enter_context(make(up, folder))
                way.folder = folder if way.process is not None else None
                until_it_answers(way)
            except NotSetUp as error:
                one.close()
                lacking[name] = str(error)
                print(f"left out: {name}: {error}", file=sys.stderr, flush=True)
                continue
            except BaseException:
                one.close()
                raise
            stack.push(one.pop_all())
            way.name = name
            found.append(way)
        yield found, lacking
