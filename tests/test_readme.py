"""README.md: each command runs, what it promises is printed, and what it names exists.

`python -m tests.test_readme` brings its table of providers up to date.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import trustme
import typer
import yaml

from llamakey_addon import catalogue, clients, options
from llamakey_addon.cli.app import app
from llamakey_addon.config import Settings
from llamakey_addon.config.model import ConfigFile
from llamakey_addon.config.part import Part
from llamakey_addon.journey import Provider
from llamakey_addon.serve import envfile
from tests import canary, harness, readme
from tests.client import Wire
from tests.conftest import Start
from tests.fakes import World
from tests.fakes.wire import Reply, json_reply
from tests.readme import Block, Command, Terminal
from tests.standin import stand_in
from tests.starts import BIN

# Each starts several processes; on a busy machine that takes its time.
pytestmark = pytest.mark.timeout(180)

PACKAGE = readme.ROOT / "llamakey_addon"
SDK_PYTHON = readme.ROOT / ".sdks" / "current" / "bin" / "python"

SET_UP = {
    "pipx install .": "makes an environment; tests/test_project.py installs the package",
    "scripts/test": "is what runs this; .ci/run calls it",
    "scripts/check": ".ci/run calls it",
    "lmk doctor": "calls by every client there is; tests/cli/test_doctor_clients.py runs it",
    ".venv/bin/python -m tests.test_readme": "writes README.md; what it writes is tested below",
}
"""Commands that are not run here, and why."""

SERVERS = ("scripts/lmk", "lmk serve", ".venv/bin/mitmdump", ".venv/bin/mitmweb")
"""What commands begin with that run until they are stopped."""


def is_server(command: Command) -> bool:
    return command.text == "lmk" or command.text.startswith(SERVERS)


SESSION = readme.blocks()[:3]
TO_THE_END = [
    block
    for block in readme.blocks("sh", "console")
    if block not in SESSION
    and not any(command.text in SET_UP or is_server(command) for command in block.commands)
]
SERVING = [
    command
    for block in readme.blocks("sh", "console")
    if block not in SESSION
    for command in block.commands
    if is_server(command)
]


# --- a place to run them in -----------------------------------------------------------------------

APP = "from openai import OpenAI\nprint(OpenAI().models.list().data[0].id)\n"
#: In place of an agent: the call that each is known to begin with, from its environment alone.
AGENT = """\
import json, os, tomllib, urllib.request
body = {{"model": "m", "max_tokens": 9, "messages": [{{"role": "user", "content": "Hi"}}]}}
headers = {{"Authorization": "Bearer " + os.environ["{key}"], "Content-Type": "application/json",
           "anthropic-version": "2023-06-01"}}
url = {base} + "{path}"
request = urllib.request.Request(url, json.dumps(body).encode(), headers)
print(urllib.request.urlopen(request).status)
"""
_CODEX = "tomllib.load(open(os.environ['CODEX_HOME'] + '/config.toml', 'rb'))"
AGENTS = {
    "claude": ("os.environ['ANTHROPIC_BASE_URL']", "ANTHROPIC_AUTH_TOKEN", "/v1/messages"),
    "codex": (
        f"{_CODEX}['model_providers']['llamakey']['base_url']",
        "LLAMAKEY_API_KEY",
        "/chat/completions",
    ),
    "aider": ("os.environ['OPENAI_API_BASE']", "OPENAI_API_KEY", "/chat/completions"),
}


@dataclass(frozen=True, slots=True)
class Place:
    """A folder like a fresh clone, in an empty home."""

    folder: Path
    port: int
    environ: Mapping[str, str]

    def as_here(self, command: str) -> str:
        """The command with the port of this test."""
        return command.replace("localhost:8000", f"localhost:{self.port}")

    def run(self, script: str, environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", self.as_here(script)],
            cwd=self.folder,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=readme.WAIT_S,
            check=False,
        )

    def write_env_file(self, key: str) -> None:
        settings = Settings.load(self.folder / "config.yaml", self.environ)
        url = f"http://localhost:{self.port}"
        text = envfile.content(settings.providers.values(), url, key, "alice")
        (self.folder / "llamakey_local.env").write_text(text)


def make_place(folder: Path, world: World, port: int, home: Path) -> Place:
    for name in ("bin", "home/.mitmproxy", "scripts"):
        (folder / name).mkdir(parents=True)
    programs = {
        name: f'exec {shlex.quote(str(BIN / name))} "$@"' for name in ("lmk", "mitmdump", "mitmweb")
    }
    programs |= {"python": f'exec {shlex.quote(str(SDK_PYTHON))} "$@"'}
    programs |= {"op": "echo canary-from-op"}
    for name, text in programs.items():
        _write_program(folder / "bin" / name, f"#!/bin/sh\n{text}\n")
    own = (readme.ROOT / "scripts/lmk").read_text().splitlines()[-2]
    assert own.startswith("export LLAMAKEY_COMMAND="), "as scripts/lmk ends"
    lmk = shlex.quote(str(BIN / "lmk"))
    _write_program(folder / "scripts/lmk", f'#!/bin/sh\n{own}\nexec {lmk} "$@"\n')
    for name, (base, key, path) in AGENTS.items():
        program = AGENT.format(base=base, key=key, path=path)
        _write_program(folder / "bin" / name, f"#!{sys.executable}\n{program}")
    (folder / ".venv").mkdir()
    (folder / ".venv/bin").symlink_to(folder / "bin")
    (folder / "llamakey_addon").symlink_to(PACKAGE)
    (folder / "app.py").write_text(APP)
    config = harness.base_config(world, port)
    config["view"] = {"web_port": 0}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "home/.mitmproxy/config.yaml").write_text(f"web_port: {harness.free_port()}\n")
    environ = {name: os.environ[name] for name in ("LANG", "TMPDIR") if name in os.environ}
    environ |= {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    environ |= {
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder / "home"),
        "LLAMAKEY_HOME": str(home),
        "LOGNAME": "alice",
    }
    return Place(folder, port, environ)


def _write_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def real_keys(world: World) -> dict[str, str]:
    """As an owner has them in the environment."""
    return {variable: world.key(id) for id, variable in harness.KEY_VARIABLES.items()}


@pytest.fixture
def place(tmp_path: Path, world: World) -> Place:
    return make_place(tmp_path, world, harness.free_port(), tmp_path / "data")


def served(place: Place, running: Terminal) -> None:
    """Waits until a start has come to its end."""
    running.wait_for(r"Serving \d+ of|reverse proxy to http://127.0.0.1:9 listening at")
    health = place.run("curl -sSf http://localhost:8000/_llamakey/health", place.environ)
    assert health.stdout == '{"status": "ok"}\n', health.stderr + running.printed


# --- commands -------------------------------------------------------------------------------------


def test_every_command_is_run_or_excused() -> None:
    commands = [c.text for block in readme.blocks("sh", "console") for c in block.commands]
    run = [c.text for block in (*SESSION, *TO_THE_END) for c in block.commands]
    run += [command.text for command in SERVING]
    assert sorted(commands) == sorted([*run, *SET_UP])
    assert {block.language for block in readme.blocks()} == {"sh", "console", "text", "yaml"}
    assert not any(re.search(r"^\$ ", block.text, re.MULTILINE) for block in readme.blocks("text"))


@pytest.mark.sdk
def test_session(tmp_path: Path) -> None:
    """Two terminals: what each prints is what README shows."""
    start, call, later = SESSION
    assert [block.language for block in SESSION] == ["console", "console", "text"]
    with World(tmp_path / "fakes") as world:
        real = f"{world.key('openai')[:-4]}Xw3A"
        world.set_key("openai", real)
        place = make_place(tmp_path / "clone", world, harness.free_port(), tmp_path / "data")
        openai = {"upstream": world.origin("openai"), "ca": str(world.ca)}
        config = {"listen": f"localhost:{place.port}", "providers": {"openai": openai}}
        (place.folder / "config.yaml").write_text(yaml.safe_dump(config))
        world.force("openai", "/v1/chat/completions", _greeting(call.commands[-1].printed[0]))
        export, serve = start.commands
        name, _, value = export.text.removeprefix("export ").partition("=")
        assert value == "sk-proj-…"
        owner = {**place.environ, name: real}
        with readme.terminal(serve.text, place.folder, owner) as running:
            served(place, running)
            fake = world.origin("openai").removeprefix("https://")
            shown = running.printed.replace(fake, "api.openai.com")
            shown = shown.replace(f"localhost:{place.port}", "localhost:8000")
            assert readme.shows("\n".join(serve.printed), shown), shown
            made = place.run("\n".join(c.text for c in call.commands), place.environ)
            assert made.stdout.splitlines() == list(call.commands[-1].printed), made.stderr
            running.wait_for(r"\blmk_[0-9a-f]{16}\b")
            assert readme.shows(later.text, running.printed), running.printed
            assert running.stop() == 0
        assert [request.credential for request in world.requests()] == ["real"]
        assert world.violations == []
        found = canary.find_in_folder(place.folder, [real])
        assert found + canary.find(running.printed.encode(), [real]) == []


def _greeting(text: str) -> Reply:
    message = {"role": "assistant", "content": text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    base = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1760000000, "model": "m"}
    usage = {"prompt_tokens": 9, "completion_tokens": 10, "total_tokens": 19}
    return json_reply({**base, "choices": [choice], "usage": usage})


@pytest.mark.sdk
@pytest.mark.parametrize("block", TO_THE_END, ids=str)
def test_commands_that_end(block: Block, tmp_path: Path, world: World, shared_proxy: Start) -> None:
    proxy = shared_proxy()
    place = make_place(tmp_path / "clone", world, proxy.port, tmp_path / "data")
    place.write_env_file(proxy.local_key)
    owner = {**place.environ, **real_keys(world)}
    script = "set -e\n" + "".join(f"{c.text}\nprintf '\\f'\n" for c in block.commands)
    with stand_in(place.folder / "bin/lmk", BIN / "lmk"):
        done = place.run(script, owner)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    for command, printed in zip(block.commands, done.stdout.split("\f"), strict=False):
        assert readme.shows("\n".join(command.printed), printed), printed
    assert canary.find(f"{done.stdout}{done.stderr}".encode(), world.keys.values()) == []


@pytest.mark.parametrize("command", SERVING, ids=lambda command: command.text)
def test_commands_that_serve(command: Command, place: Place, world: World) -> None:
    before = len(world.violations)
    key = harness.mint(Path(place.environ["LLAMAKEY_HOME"]), "alice")
    owner = {**place.environ, **real_keys(world)}
    with readme.terminal(command.text, place.folder, owner) as running:
        served(place, running)
        if "web" in command.text:
            page = running.wait_for(r"http://127\.0\.0\.1:\d+/\?token=\S+")[0]
            assert place.run(f"curl -sSf '{page}'", {**place.environ}).returncode == 0
        with Wire(f"http://localhost:{place.port}") as wire:
            wire.request("GET", "/openai/v1/models", [("Authorization", f"Bearer {key}")])
            assert wire.answer().status == 200
        assert running.stop() == 0, running.printed
    for written in re.findall(r"\bcalls\.\w+", command.text):
        assert b"/openai/v1/models" in (place.folder / written).read_bytes()
    forbidden = [*world.keys.values(), key]
    assert canary.find_in_folder(place.folder, forbidden) == []
    assert canary.find(running.printed.encode(), forbidden) == []
    assert world.violations[before:] == []


# --- what README names ----------------------------------------------------------------------------


def test_table_is_current() -> None:
    assert readme.between("providers").strip() == _table().strip(), (
        "run: .venv/bin/python -m tests.test_readme"
    )


def _table() -> str:
    return clients.providers_table(catalogue.load().entries.values())


def lmk_lines() -> Iterator[str]:
    """Every call of `lmk` in a block or in the prose."""
    for word in [*readme.words(), *(c.text for b in readme.blocks() for c in b.commands)]:
        for found in re.findall(r"(?:^|[($ /])lmk ([^)\n]*)", f"{word} "):
            yield found.strip()


@cache
def every_provider() -> list[Provider]:
    return list(Settings.load(None, {}).providers.values())


@cache
def lmk_command() -> Any:
    return typer.main.get_command(app)


@pytest.mark.parametrize("line", sorted(set(lmk_lines())))
def test_subcommands_and_options_exist(line: str) -> None:
    command = lmk_command()
    tokens = iter(shlex.split(line.split(">")[0], comments=True))
    for token in tokens:
        if token == "--":
            break
        if token.startswith("-"):
            assert token in {option for p in command.params for option in p.opts}, token
            if token == "--for":
                place = "http://localhost:8000"
                names = [name for name in next(tokens).split(",") if name != "list"]
                clients.environment(every_provider(), place, "KEY", names)
        elif hasattr(command, "commands"):
            command = command.commands[token]


def settings(part: type[Part] = ConfigFile, before: str = "") -> Iterator[str]:
    """`limits`, `limits.head_bytes`, …"""
    for name, field in part.model_fields.items():
        yield before + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, Part):
            yield from settings(field.annotation, f"{before}{name}.")


LOG_FIELDS = frozenset(
    word
    for line in readme.section("Operating it").splitlines()
    if line.startswith("| `")
    for word in re.findall(r"`(\w+)`", line.split("|")[1])
)
#: What else in the prose is written like a setting.
NOT_SETTINGS = {"proxy_buffering off", "proxy_request_buffering off", "proxy_http_version 1.1"}


def test_settings_exist() -> None:
    known = {*settings(), *settings(next_part(ConfigFile, "providers"))}
    for word in readme.words():
        named = re.fullmatch(r"([a-z]+(?:[_.][a-z_]+)+)(: \S+)?", word)
        file = re.search(r"\.(yaml|env|py|db|pem)$", word)
        if named and not file and named[1] not in LOG_FIELDS | set(options.REFUSED):
            assert named[1] in known, word
    first = readme.section("Configuration").split("| setting |")[1].split("\n\n")[0]
    tabled = re.findall(r"`([a-z_]+)`", "".join(re.findall(r"^\| (`.*?) \|", first, re.MULTILINE)))
    assert set(tabled) == set(ConfigFile.model_fields) - {"view"}


def next_part(part: type[Part], name: str) -> type[Part]:
    """What a mapping of a part holds."""
    annotation = str(part.model_fields[name].annotation)
    from llamakey_addon.config import model

    return getattr(model, re.findall(r"\b(\w+Part)\b", annotation)[0])


@pytest.mark.parametrize("block", readme.blocks("yaml"), ids=str)
def test_configuration_is_taken(block: Block, tmp_path: Path, place: Place) -> None:
    folder = tmp_path / "owner"
    for name in ("secrets", "tls"):
        (folder / name).mkdir(parents=True)
    (folder / "secrets/anthropic").write_text("sk-ant-canary-in-a-file\n")
    (folder / "secrets/anthropic").chmod(0o600)
    certificate = trustme.CA().issue_cert("llm.example.com")
    certificate.cert_chain_pems[0].write_to_path(folder / "tls/cert.pem")
    certificate.private_key_pem.write_to_path(folder / "tls/key.pem")
    (folder / "tls/key.pem").chmod(0o600)
    (folder / "config.yaml").write_text(block.text)
    environ = {**place.environ, "TEAM_OPENAI_KEY": "sk-canary", "VLLM_KEY": "sk-canary"}
    environ["HF_TOKEN"] = "hf_canary"
    taken = Settings.load(folder / "config.yaml", environ)
    # Without the extra, or with nothing stored: that of the machine is nobody's to test.
    assert [str(w) for w in taken.warnings if "keyring" not in str(w)] == []
    for id, part in yaml.safe_load(block.text).get("providers", {}).items():
        if not part["key"].startswith("keyring:"):
            assert taken.providers[id].ready, taken.providers[id].missing


def test_log_fields_are_those_of_the_log(shared_proxy: Start) -> None:
    proxy = shared_proxy()
    with Wire(proxy.url) as wire:
        for key in (proxy.local_key, "sk-foreign"):
            wire.request("GET", "/openai/v1/models", [("Authorization", f"Bearer {key}")])
            wire.answer()
    # By its code: a provider's own 401 in this shared log is no denial.
    lines = [proxy.wait_for_log(**it) for it in ({"status": 200}, {"denied": "invalid_api_key"})]
    assert {name for line in lines for name in line} | {"note"} == LOG_FIELDS


def test_refused_options_are_those_that_are_refused() -> None:
    assert re.findall(r"`(\w+)`", readme.between("refused")) == sorted(options.REFUSED)


def test_troubleshooting_quotes_what_is_said() -> None:
    said = [text for path in PACKAGE.rglob("*.py") for text in _strings(path)]
    rows = re.findall(r"^\| (`.*?) \|", readme.section("Troubleshooting"), re.MULTILINE)
    quotes = [re.findall(r"`(.+?)`", row)[0] for row in rows if not row.startswith("`HTTP_")]
    assert len(quotes) > 8
    assert [quote for quote in quotes if not any(quote in text for text in said)] == []


def _strings(path: Path) -> Iterator[str]:
    """The texts in a module; what is filled in, as `…`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.JoinedStr):
            parts = [v.value if isinstance(v, ast.Constant) else "…" for v in node.values]
            yield "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_links_within_resolve() -> None:
    titles = re.findall(r"^#+ (.+)$", readme.prose(), re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}
    links = re.findall(r"\]\(([^)]+)\)", readme.prose())
    assert len(links) > 8
    for link in links:
        path, _, anchor = link.partition("#")
        if path.startswith("https://"):
            continue
        assert not path or (readme.ROOT / path).exists(), link
        assert not anchor or anchor in anchors, link


@pytest.mark.slow
@pytest.mark.skipif(
    not (shutil.which("nginx") and shutil.which("wrk")), reason="nginx and wrk are not installed"
)
def test_the_benchmark_runs() -> None:
    """No figure is asserted: those of a busy machine say nothing."""
    program = readme.ROOT / "scripts/bench/throughput.py"
    short = ("--rounds", "1", "--seconds", "1", "--clients", "2", "--keep", "no")
    done = subprocess.run(
        [sys.executable, str(program), *short, "--only", "direct", "lmk everything"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.count("| lmk everything on") == 2


def test_the_benchmarks_are_told_of() -> None:
    folder = readme.ROOT / "scripts/bench"
    told = (folder / "README.md").read_text()
    # which the others are made of
    parts = {"chats.py", "figures.py", "load.py", "upstream.py", "ways.py"}
    for program in {each.name for each in folder.glob("*.py")} - parts:
        assert program in told, program


def test_names_no_machine() -> None:
    assert not re.search(r"/(home|root|tmp|work|opt|Users|mnt|var)/", readme.text())
    assert os.uname().nodename not in readme.text()


def main() -> None:
    table = f"\n{_table()}"
    readme.README.write_text(readme.with_marked("providers", table), encoding="utf-8")


if __name__ == "__main__":
    main()
