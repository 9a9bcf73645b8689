"""`lmk run`: the client's environment, no real key, the command's own exit code."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from llamakey_addon import certificates
from tests.cli.command import REAL_KEY

DUMP = "import json, os; print(json.dumps(dict(os.environ)))"


@pytest.fixture
def key(lmk) -> str:
    text = lmk("keys", "new", "bob").out.strip()
    lmk.env_file.write_text(
        f"export LLAMAKEY_URL=http://localhost:8123\nexport LLAMAKEY_API_KEY={text}\n"
        f"export OPENAI_API_KEY={text}\nexport OPENAI_BASE_URL=http://localhost:8123/openai/v1\n"
    )
    return text


def environ_of(lmk, *arguments: str, **env: str) -> dict[str, str]:
    done = lmk("run", *arguments, "--", sys.executable, "-c", DUMP, env=env)
    assert done.code == 0, done.err
    return json.loads(done.out)


def test_a_command_gets_the_clients_environment(lmk, key):
    environ = environ_of(lmk)
    assert environ["OPENAI_API_KEY"] == key
    assert environ["OPENAI_BASE_URL"] == "http://localhost:8123/openai/v1"
    assert environ["LLAMAKEY_URL"] == "http://localhost:8123"


def test_no_real_key_is_left_whatever_its_name(lmk, key):
    environ = environ_of(
        lmk,
        OPENAI_API_KEY=REAL_KEY,
        MY_COPY=REAL_KEY,
        IN_A_URL=f"https://user:{REAL_KEY}@host/",
        ANTHROPIC_API_KEY="sk-ant-something",
        ANTHROPIC_AUTH_TOKEN="sk-ant-something-else",
        HF_TOKEN="hf_something",
        HARMLESS="stays",
    )
    assert REAL_KEY not in json.dumps(environ)
    assert environ["OPENAI_API_KEY"] == key
    assert environ["HARMLESS"] == "stays"
    left = json.dumps(environ)
    for value in ("sk-ant-something", "hf_something"):
        assert value not in left


def test_base_urls_of_before_do_not_survive(lmk, key):
    environ = environ_of(lmk, OPENAI_BASE_URL="https://api.openai.com/v1", CO_API_URL="https://x")
    assert environ["OPENAI_BASE_URL"] == "http://localhost:8123/openai/v1"
    assert environ.get("CO_API_URL") != "https://x"


def test_calls_for_localhost_pass_by_a_companys_proxy(lmk, key):
    environ = environ_of(lmk, HTTPS_PROXY="http://proxy.corp:3128", NO_PROXY="corp.example")
    assert environ["NO_PROXY"] == environ["no_proxy"] == "corp.example,localhost,127.0.0.1"
    assert "NO_PROXY" not in environ_of(lmk)


@pytest.fixture
def door(lmk, key) -> str:
    """The file of a proxy whose second door is open."""
    with lmk.env_file.open("a") as file:
        file.write("export LLAMAKEY_DOOR=http://localhost:8124\n")
    return key


def test_a_command_goes_through_the_second_door(lmk, door):
    front, place = certificates.place_in(lmk.home), certificates.door_in(lmk.home)
    certificates.ensure_door(place, front, ["api.mistral.ai"])
    environ = environ_of(
        lmk,
        HTTPS_PROXY="http://proxy.corp:3128",
        NODE_OPTIONS="--no-warnings",
        NO_PROXY="a.example",
    )
    proxy = f"http://key:{door}@localhost:8124"
    assert (environ["HTTPS_PROXY"], environ["https_proxy"]) == (proxy, proxy)
    assert environ["NO_PROXY"] == environ["no_proxy"] == "a.example,localhost,127.0.0.1"
    bundle, ours = str(place.bundle), str(place.ours)
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"):
        assert environ[name] == bundle
    assert environ["NODE_EXTRA_CA_CERTS"] == ours
    assert environ["NODE_USE_ENV_PROXY"] == "1"
    first, require, preload = environ["NODE_OPTIONS"].split()
    assert (first, require) == ("--no-warnings", "--require")
    assert Path(preload).is_file()
    assert environ["OPENAI_BASE_URL"] == "http://localhost:8123/openai/v1", "by the front door"


def test_a_door_that_is_not_trusted_is_left_alone(lmk, door):
    done = lmk("run", "--", sys.executable, "-c", DUMP)
    assert "lmk tls --trust-door ca.pem" in done.err
    assert "HTTPS_PROXY" not in json.loads(done.out)


def test_a_client_trusts_the_door_of_another_machine(lmk, door, tmp_path):
    place = certificates.door_in(tmp_path)
    certificates.ensure_door(place, certificates.place_in(tmp_path), ["api.mistral.ai"])
    done = lmk("tls", "--trust-door", str(place.ca))
    assert (done.code, "1 hosts" in done.out) == (0, True)
    assert environ_of(lmk)["HTTPS_PROXY"].endswith("@localhost:8124")


def test_without_a_door_nothing_of_it_is_set(lmk, key):
    assert not {"HTTPS_PROXY", "NODE_OPTIONS", "SSL_CERT_FILE"} & set(environ_of(lmk))


@pytest.mark.parametrize("code", [0, 3, 77])
def test_the_exit_code_passes(lmk, key, code):
    assert lmk("run", "--", sys.executable, "-c", f"raise SystemExit({code})").code == code


def test_the_commands_own_options_are_its_own(lmk, key):
    done = lmk("run", sys.executable, "-c", "import sys; print(sys.argv)", "--for", "-h", "x")
    assert done.out.strip() == "['-c', '--for', '-h', 'x']"


def test_standard_input_passes(lmk, key):
    done = lmk("run", "--", "cat", stdin="hello")
    assert done.out == "hello"


def test_an_unknown_command_is_told_as_a_shell_does(lmk, key):
    done = lmk("run", "--", "no-such-command")
    assert done.code == 127
    assert done.err == "lmk run: no-such-command: command not found\n"


def test_without_a_key_nothing_is_run(lmk):
    done = lmk("run", "--", sys.executable, "-c", "print('ran')")
    assert done.code == 1
    assert "ran" not in done.out
    assert "--key-file" in done.err


def test_without_a_command_it_says_how(lmk, key):
    done = lmk("run")
    assert done.code == 2
    assert "COMMAND" in done.err


def as_program(lmk, name: str) -> str:
    """A program of this name that prints its environment."""
    path = lmk.folder / name
    path.write_text(f"#!{sys.executable}\n{DUMP}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def offered(lmk, key) -> str:
    """As `key`, with a file that offers Anthropic as well."""
    with lmk.env_file.open("a") as file:
        file.write(
            f"export ANTHROPIC_API_KEY={key}\n"
            "export ANTHROPIC_BASE_URL=http://localhost:8123/anthropic\n"
        )
    return key


def test_an_agent_is_known_by_its_command(lmk, offered):
    done = lmk(
        "run", "--", as_program(lmk, "claude"), env={"CLAUDE_CODE_OAUTH_TOKEN": "real", "X": "y"}
    )
    environ = json.loads(done.out)
    assert environ["ANTHROPIC_AUTH_TOKEN"] == offered
    assert environ["ANTHROPIC_BASE_URL"] == "http://localhost:8123/anthropic"
    assert not {"ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN"} & environ.keys()
    assert environ["OPENAI_API_KEY"] == offered, "for what the agent runs itself"
    assert environ["X"] == "y"


def test_names_go_before_the_command(lmk, offered):
    done = lmk("run", "--for", "anthropic", "--", as_program(lmk, "claude"))
    environ = json.loads(done.out)
    assert environ["ANTHROPIC_API_KEY"] == offered
    assert "ANTHROPIC_AUTH_TOKEN" not in environ


def test_codex_runs_with_a_home_of_its_own(lmk, offered):
    environ = json.loads(lmk("run", "--", as_program(lmk, "codex"), env={"CODEX_HOME": "/x"}).out)
    assert (Path(environ["CODEX_HOME"]) / "config.toml").is_file()
    assert environ["CODEX_HOME"].startswith(str(lmk.home))


def test_an_agent_whose_provider_is_not_served_is_told(lmk, key):
    done = lmk("run", "--", as_program(lmk, "claude"))
    assert done.code == 0
    assert "Claude Code needs anthropic" in done.err
