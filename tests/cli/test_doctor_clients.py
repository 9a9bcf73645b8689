"""`lmk doctor`: whether a client's traffic came by, told from what the proxy has seen.

Stand-ins for clients are packages and programs that do one thing. The real ones are tried by
tests/sdks/test_doctor.py.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from llamakey_addon.cli import doctor_clients
from tests.cli.command import Done, Lmk
from tests.conftest import Start
from tests.fakes import World
from tests.harness import Proxy
from tests.starts import BIN

#: As the SDK would: by its variables, with the headers that it is given.
OBEDIENT = """\
import json, os, urllib.request
class OpenAI:
    def __init__(self, default_headers, **_):
        key = os.environ["OPENAI_API_KEY"]
        self.headers = {**default_headers, "Authorization": f"Bearer {key}"}
        self.models = self
    def list(self):
        url = os.environ["OPENAI_BASE_URL"] + "/models"
        urllib.request.urlopen(urllib.request.Request(url, headers=self.headers)).read()
"""
#: Whatever the environment says, it goes to the provider; and it says that all is well.
WAYWARD = """\
import os, urllib.request
class Groq:
    def __init__(self, **_):
        self.models = self
    def list(self):
        headers = {"Authorization": "Bearer " + os.environ["GROQ_API_KEY"]}
        url = "https://api.groq.example/openai/v1/models"
        try:
            urllib.request.urlopen(urllib.request.Request(url, headers=headers)).read()
        except OSError:
            pass
"""
#: No variable redirects it. It honours HTTPS_PROXY, as HTTP clients do.
IN_CODE = """\
import urllib.request
class Mistral:
    def __init__(self, api_key, server_url="https://api.mistral.ai"):
        self.key, self.url, self.models = api_key, server_url, self
    def list(self, http_headers):
        headers = {**http_headers, "Authorization": f"Bearer {self.key}"}
        request = urllib.request.Request(self.url + "/v1/models", headers=headers)
        urllib.request.urlopen(request).read()
"""
BROKEN = "raise RuntimeError('it is broken')\n"
WAYWARD_NODE = """\
export default class { models = { list: () => fetch("https://api.groq.example/") } };
"""
OBEDIENT_NODE = """\
export default class {
  constructor({ defaultHeaders }) { this.headers = defaultHeaders; this.models = this; }
  list() {
    const headers = { ...this.headers, Authorization: `Bearer ${process.env.OPENAI_API_KEY}` };
    return fetch(`${process.env.OPENAI_BASE_URL}/models`, { headers });
  }
}
"""
#: As Claude Code: a message, with the headers of its variable; prints what it got.
AGENT = """\
import json, os, sys, urllib.error, urllib.request
if "--version" in sys.argv:
    sys.exit(print("9.9.9 (stand-in)"))
name, _, value = os.environ["ANTHROPIC_CUSTOM_HEADERS"].partition(": ")
model = sys.argv[sys.argv.index("--model") + 1]
body = {"model": model, "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]}
headers = {name: value, "Authorization": "Bearer " + os.environ["ANTHROPIC_AUTH_TOKEN"],
           "Content-Type": "application/json", "anthropic-version": "2023-06-01"}
url = os.environ["ANTHROPIC_BASE_URL"] + "/v1/messages"
try:
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    print(urllib.request.urlopen(request).read().decode())
except urllib.error.HTTPError as error:
    print("API Error:", error.read().decode())
"""


def package(folder: Path, name: str, module: str, text: str) -> None:
    """One for Python, as pip would have installed it."""
    place = folder / "site"
    place.mkdir(exist_ok=True)
    (place / f"{module}.py").write_text(text)
    info = place / f"{name.replace('-', '_')}-9.9.9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 9.9.9\n")


def node_package(folder: Path, name: str, text: str) -> None:
    place = folder / "node_modules" / name
    place.mkdir(parents=True)
    (place / "package.json").write_text(
        json.dumps({"name": name, "version": "9.9.9", "type": "module"})
    )
    (place / "index.js").write_text(text)


def program(folder: Path, name: str, text: str) -> None:
    place = folder / "bin"
    place.mkdir(exist_ok=True)
    (place / name).write_text(f"#!{sys.executable}\n{text}")
    (place / name).chmod(0o755)


@pytest.fixture
def client(lmk: Lmk, shared_proxy: Start) -> tuple[Lmk, Proxy]:
    """A client's machine: nothing of the owner's, an empty Python, no Node package but its own."""
    proxy = shared_proxy(config={"door": {"open": True, "listen": "localhost:0"}})
    lmk.env_file.write_text((proxy.folder / "llamakey_local.env").read_text())
    program(lmk.folder, "npm", "raise SystemExit(1)\n")
    lmk.environ["PATH"] = f"{lmk.folder / 'bin'}:{BIN}:/usr/local/bin:/usr/bin:/bin"
    lmk.environ["NODE_PATH"] = ""
    return lmk, proxy


def doctor(lmk: Lmk, *arguments: str) -> Done:
    (lmk.folder / "site").mkdir(exist_ok=True)
    path = f"{lmk.folder / 'site'}:{lmk.environment({})['PYTHONPATH']}"
    return lmk.here("doctor", *arguments, env={"PYTHONPATH": path})


def verdicts(done: Done) -> dict[str, dict[str, Any]]:
    return {each["client"]: each for each in json.loads(done.out)["clients"]}


def test_what_came_by_is_told_from_what_did_not(client: tuple[Lmk, Proxy], world: World) -> None:
    lmk, proxy = client
    package(lmk.folder, "openai", "openai", OBEDIENT)
    package(lmk.folder, "groq", "groq", WAYWARD)
    package(lmk.folder, "ollama", "ollama", BROKEN)
    node_package(lmk.folder, "openai", OBEDIENT_NODE)
    node_package(lmk.folder, "groq-sdk", WAYWARD_NODE)
    program(lmk.folder, "claude", AGENT)
    program(lmk.folder, "codex", "print('codex-cli 1.2.3')\n")
    since = world.mark()
    names = "openai,groq,ollama,groq-sdk,claude-code,codex"
    done = doctor(lmk, "--clients", "--json", "--for", names)
    assert done.code == 1, done.err
    found = verdicts(done)
    states = {name: each["state"] for name, each in found.items() if each["version"] == "9.9.9"}
    assert states == {
        "openai (python)": "through",
        "openai, AzureOpenAI (python)": "failed",  # the stand-in has no such class
        "groq (python)": "around",
        "ollama (python)": "failed",
        "openai (node)": "through",
        "groq-sdk (node)": "around",
        "Claude Code": "through",
    }
    assert found["Codex CLI"]["state"] == "silent"
    assert found["Codex CLI"]["version"] == "1.2.3"
    assert "lmk run -- codex" in found["Codex CLI"]["told"]
    assert found["groq (python)"]["hosts"] == ["api.groq.example:443"]
    assert "lmk env" in found["groq (python)"]["told"]
    assert found["groq-sdk (node)"]["hosts"] == ["api.groq.example:443"]
    assert "it is broken" in found["ollama (python)"]["told"]
    # what it says was seen is what the proxy has served
    for name in ("openai (python)", "openai (node)", "Claude Code"):
        line = proxy.wait_for_log(id=found[name]["request"])
        assert line["provider"] in ("openai", "anthropic")
        assert found[name]["door"] == "front"
    assert len(world.requests(since=since)) == 3
    assert not (lmk.folder.parent / "home" / ".codex").exists()


def test_what_no_variable_redirects_goes_by_the_second_door_or_in_code(
    client: tuple[Lmk, Proxy], world: World
) -> None:
    lmk, proxy = client
    package(lmk.folder, "mistralai", "mistralai", IN_CODE)
    package(lmk.folder, "xai-sdk", "xai_sdk", BROKEN)
    since = world.mark()
    arguments = ("--clients", "--json", "--for", "mistral,xai-sdk")
    unknown = verdicts(doctor(lmk, *arguments))["mistralai (python)"]
    assert (unknown["state"], unknown["door"]) == ("through", "front, in code")
    assert f'server_url="{proxy.url}/mistral"' in unknown["told"]
    # on the proxy's own machine its authority is trusted
    lmk.environ["LLAMAKEY_HOME"] = str(proxy.home)
    done = doctor(lmk, *arguments)
    assert done.code == 0, done.err
    known = verdicts(done)["mistralai (python)"]
    assert (known["state"], known["door"], known["hosts"]) == ("through", "second", [])
    assert "lmk run" in known["told"]
    for found in (unknown, known):
        assert proxy.wait_for_log(id=found["request"])["provider"] == "mistral"
    assert [r.credential for r in world.requests("mistral", since)] == ["real", "real"]
    none = verdicts(done)["xai-sdk (python)"]
    assert none["state"] == "untested"
    assert "no door takes it" in none["told"]


def test_a_table(client: tuple[Lmk, Proxy]) -> None:
    lmk, _ = client
    package(lmk.folder, "openai", "openai", OBEDIENT)
    done = doctor(lmk, "--for", "openai")
    [line] = [line for line in done.out.splitlines() if line.startswith("openai (python)")]
    assert line.split()[2:] == ["9.9.9", "by", "the", "proxy", "front"]


def test_what_the_proxy_refuses_came_by_as_well(client: tuple[Lmk, Proxy]) -> None:
    lmk, proxy = client
    # bob may only GET
    text = lmk.env_file.read_text()
    line = next(line for line in text.splitlines() if "LLAMAKEY_API_KEY=" in line)
    owner = line.partition("=")[2]
    lmk.env_file.write_text(text.replace(owner, proxy.mint("bob")))
    program(lmk.folder, "claude", AGENT)
    done = doctor(lmk, "--json", "--for", "claude")
    assert done.code == 1
    found = verdicts(done)["Claude Code"]
    assert found["state"] == "refused"
    denied = proxy.wait_for_log(id=found["request"])
    assert (denied["user"], denied["denied"]) == ("bob", "permission_denied")


def test_what_is_not_served_is_not_tried(client: tuple[Lmk, Proxy], world: World) -> None:
    lmk, _ = client
    text = lmk.env_file.read_text()
    kept = [line for line in text.splitlines() if "GROQ" not in line]
    lmk.env_file.write_text("\n".join(kept))
    package(lmk.folder, "groq", "groq", WAYWARD)
    package(lmk.folder, "openai", "openai", OBEDIENT)
    done = doctor(lmk, "--json")
    found = verdicts(done)
    assert found["groq (python)"]["state"] == "untested"
    assert found["openai (python)"]["state"] == "through"


def test_a_client_that_never_ends_is_ended_with_what_it_started(
    client: tuple[Lmk, Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    lmk, _ = client
    # a child that holds the output open, as programs have that start themselves anew
    forks = "import os, time\nos.fork()\ntime.sleep(600)\n"
    program(lmk.folder, "codex", f"import sys\nif '--version' in sys.argv: sys.exit()\n{forks}")
    monkeypatch.setattr(doctor_clients, "_CALL_S", 1.0)
    found = verdicts(doctor(lmk, "--json", "--for", "codex"))["Codex CLI"]
    assert found["state"] == "silent"
    assert "no end within 1 s" in found["told"]


def test_a_proxy_that_is_not_there_or_knows_no_such_key(client: tuple[Lmk, Proxy]) -> None:
    lmk, proxy = client
    done = doctor(lmk, "--url", "http://localhost:9")
    assert done.code == 1
    assert "start lmk there" in done.err
    stranger = lmk("keys", "new", "stranger").out.strip()
    where = f"export LLAMAKEY_URL={proxy.url}\n"
    lmk.env_file.write_text(f"{where}export LLAMAKEY_API_KEY={stranger}\n")
    done = doctor(lmk)
    assert done.code == 1
    assert "refuses the local key" in done.err
    assert stranger not in done.err


def test_unknown_names_get_the_nearest(client: tuple[Lmk, Proxy]) -> None:
    done = doctor(client[0], "--for", "opnai")
    assert done.code == 2
    assert "Did you mean openai?" in done.err


def test_without_a_key_it_says_where_to_get_one(lmk: Lmk) -> None:
    done = lmk.here("doctor")
    assert done.code == 1
    assert "--key-file" in done.err
