"""`lmk run`: the client's environment, no real key, the command's own exit code."""

from __future__ import annotations

import json
import sys

import pytest

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
