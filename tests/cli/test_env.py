"""`lmk env`, `lmk providers`: what clients set, and what the owner has."""

from __future__ import annotations

import json
import stat
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.cli.command import ANSI, LOCAL_KEY, REAL_KEY

PLACEHOLDER = "YOUR-LOCAL-KEY"


@pytest.fixture
def key(lmk) -> str:
    return lmk("keys", "new", "bob").out.strip()


def in_bash(text: str) -> dict[str, str]:
    """The environment of a bash that sourced `text`."""
    done = subprocess.run(
        ["bash", "-c", 'source /dev/stdin <<<"$0" && env -0', text],
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(line.split("=", 1) for line in done.stdout.split("\0") if line)


def test_the_key_comes_from_the_file_beside(lmk, key):
    lmk.env_file.write_text(f"export LLAMAKEY_API_KEY={key}\n")
    done = lmk("env", "--for", "openai,anthropic")
    assert (done.code, done.err) == (0, "")
    environ = in_bash(done.out)
    assert environ["OPENAI_BASE_URL"] == "http://localhost:8000/openai/v1"
    assert environ["OPENAI_API_KEY"] == environ["LLAMAKEY_API_KEY"] == key
    assert environ["ANTHROPIC_BASE_URL"] == "http://localhost:8000/anthropic"


def test_the_key_comes_from_a_file_or_from_standard_input(lmk, key):
    file = lmk.folder / "key.txt"
    file.write_text(f"{key}\n")
    by_file = lmk("env", "--key-file", str(file), "--for", "openai")
    by_stdin = lmk("env", "--key-file", "-", "--for", "openai", stdin=f"{key}\n")
    assert key in by_file.out
    assert by_stdin.out == by_file.out


def test_without_a_key_a_placeholder_stands_there(lmk):
    done = lmk("env", "--for", "openai")
    assert done.code == 0
    assert f"OPENAI_API_KEY={PLACEHOLDER}\n" in done.out
    assert "--key-file" in done.err
    assert "not ready" not in done.out, "a client's machine has no real keys"


@pytest.mark.parametrize(
    "content",
    ["", "nothing\n", "sk-lmk-abcdefghij-tooshort\n", f"OPENAI_API_KEY={REAL_KEY}\n"],
    ids=["empty", "no key", "cut", "a real key"],
)
def test_a_file_without_a_whole_key_is_told_and_not_echoed(lmk, content):
    file = lmk.folder / "key.txt"
    file.write_text(content)
    done = lmk("env", "--key-file", str(file))
    assert (done.code, done.out) == (1, "")
    assert "no whole local key" in done.err
    assert REAL_KEY not in done.err


def test_a_key_file_that_is_not_there_is_told(lmk):
    done = lmk("env", "--key-file", "nowhere.txt")
    assert done.code == 1
    assert done.err.startswith("error: --key-file nowhere.txt: No such file")


def test_a_mistyped_digit_is_noticed(lmk, key):
    wrong = key[:-1] + ("a" if key[-1] != "a" else "b")
    done = lmk("env", "--key-file", "-", stdin=wrong)
    assert done.code == 1
    assert wrong not in done.err


def test_the_url_of_the_file_goes_with_its_key(lmk, key):
    lmk.env_file.write_text(
        f"export LLAMAKEY_URL=https://llm.corp.example\nexport LLAMAKEY_API_KEY={key}\n"
    )
    assert "OPENAI_BASE_URL=https://llm.corp.example/openai/v1\n" in lmk("env", "--for=openai").out
    done = lmk("env", "--for", "openai", "--url", "https://other.example/")
    assert "OPENAI_BASE_URL=https://other.example/openai/v1\n" in done.out


def test_a_clients_file_tells_what_is_served(lmk, key):
    lmk.env_file.write_text(
        f"export OPENAI_API_KEY={key}\nexport OPENAI_BASE_URL=http://localhost:8000/openai/v1\n"
        f"export LLAMAKEY_API_KEY={key}\nexport LLAMAKEY_URL=http://localhost:8000\n"
    )
    environ = in_bash(lmk("env").out)
    assert environ["OPENAI_API_KEY"] == key
    assert "ANTHROPIC_BASE_URL" not in environ
    assert "ANTHROPIC_BASE_URL" in in_bash(lmk("env", "--for", "anthropic").out)


def test_on_the_server_what_is_ready_is_named(lmk):
    out = lmk("env", env={"OPENAI_API_KEY": REAL_KEY}).out
    assert "OPENAI_BASE_URL" in out
    assert "ANTHROPIC_BASE_URL" not in out
    assert REAL_KEY not in out


@pytest.mark.parametrize("shell", ["bash", "fish", "powershell", "dotenv", "json"])
def test_every_shell(lmk, key, shell):
    lmk.env_file.write_text(key)
    done = lmk("env", "--shell", shell, "--for", "openai")
    assert done.code == 0
    assert key in done.out
    if shell == "json":
        assert json.loads(done.out)["OPENAI_API_KEY"] == key
    assert not ANSI.search(done.out)


def test_an_unknown_name_is_told_with_the_nearest(lmk):
    done = lmk("env", "--for", "antropic")
    assert done.code == 1
    assert "Did you mean anthropic?" in done.err


def test_providers(lmk):
    env = {"OPENAI_API_KEY": REAL_KEY, "CO_API_KEY": "two words"}
    done = lmk("providers", env=env)
    assert done.code == 0
    lines = {line.split()[0]: line for line in done.out.splitlines()}
    assert lines["openai"].split()[1:4] == ["ready", "/openai", "https://api.openai.com"]
    assert "sk-p…9dF3 from env:OPENAI_API_KEY" in lines["openai"]
    assert lines["anthropic"].endswith("set ANTHROPIC_API_KEY")
    assert "CO_API_KEY holds a space" in lines["cohere"]
    assert not ANSI.search(done.out)
    assert all(REAL_KEY not in text for text in (done.out, done.err))


def test_providers_as_json(lmk):
    done = lmk("providers", "--json", env={"OPENAI_API_KEY": REAL_KEY})
    rows = {row["id"]: row for row in json.loads(done.out)}
    assert rows["openai"]["ready"] is True
    assert rows["openai"]["source"] == "env:OPENAI_API_KEY"
    assert rows["anthropic"] == {
        "id": "anthropic",
        "name": "Anthropic",
        "prefix": "anthropic",
        "ready": False,
        "upstream": "https://api.anthropic.com",
        "key": None,
        "source": None,
        "missing": "set ANTHROPIC_API_KEY",
        "key_env": ["ANTHROPIC_API_KEY"],
        "docs": rows["anthropic"]["docs"],
    }
    assert REAL_KEY not in done.out


@pytest.mark.parametrize("columns", [44, 80, 96, 120, 200])
def test_the_table_fits_the_terminal(lmk, columns):
    done = lmk.on_terminal("providers", columns=columns, env={"OPENAI_API_KEY": REAL_KEY})
    lines = ANSI.sub("", done.out).splitlines()
    assert max(len(line.rstrip()) for line in lines) <= columns
    assert any("/openai" in line and "sk-p…9dF3" in line for line in lines)


def test_no_colour_where_it_is_not_wanted(lmk):
    done = lmk.on_terminal("providers", env={"NO_COLOR": "1"})
    assert not any(code in done.out for code in ("\x1b[3", "\x1b[9"))
    assert not LOCAL_KEY.search(done.out)


# --- files of credentials -------------------------------------------------------------------------


def test_a_credentials_file_of_googles_is_written_beside_the_key_for_its_owner_alone(lmk, key):
    lmk.env_file.write_text(f"export LLAMAKEY_API_KEY={key}\nexport LLAMAKEY_URL=http://p:1\n")
    done = lmk("env", "--for", "vertex")
    assert (done.code, done.err) == (0, "")
    path = lmk.folder / "llamakey_vertex.json"
    assert in_bash(done.out)["GOOGLE_APPLICATION_CREDENTIALS"] == str(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    file = json.loads(path.read_text())
    assert file["token_url"] == "http://p:1/vertex/token"
    assert file["credential_source"]["file"] == str(path)
    assert file[file["credential_source"]["format"]["subject_token_field_name"]] == key
    # another time, in the place of the first
    assert lmk("env", "--for", "vertex").out == done.out
    assert [p.name for p in lmk.folder.glob("*.json")] == [path.name]


def test_without_a_key_no_credentials_file_is_written(lmk):
    done = lmk("env", "--for", "vertex")
    assert done.code == 0 and "GOOGLE_APPLICATION_CREDENTIALS=llamakey_vertex.json" in done.out
    assert not list(lmk.folder.glob("*.json"))


def test_a_command_gets_the_file_too(lmk, key):
    lmk.env_file.write_text(f"export LLAMAKEY_API_KEY={key}\n")
    real = {"GOOGLE_APPLICATION_CREDENTIALS": "/real.json", "AWS_SECRET_ACCESS_KEY": "aws-real"}
    done = lmk("run", "--for", "vertex", "--", "env", env=real)
    assert f"GOOGLE_APPLICATION_CREDENTIALS={lmk.folder / 'llamakey_vertex.json'}" in done.out
    assert "real" not in done.out.replace("really", "")


def test_a_pair_that_signs_names_the_key(lmk, key):
    lmk.env_file.write_text(f"export LLAMAKEY_API_KEY={key}\n")
    environ = in_bash(lmk("env", "--for", "bedrock").out)
    assert environ["AWS_ACCESS_KEY_ID"] == f"LMK{key.split('-')[2]}"
    assert environ["AWS_SECRET_ACCESS_KEY"] == environ["AWS_SESSION_TOKEN"] == key
    assert environ["AWS_ENDPOINT_URL_BEDROCK_RUNTIME"] == "http://localhost:8000/bedrock"
    assert "AWS_ACCESS_KEY_ID" not in lmk("env").out  # only where it is asked for


def test_names_are_listed(lmk):
    done = lmk.here("env", "--for", "list")
    names = {line.split()[0]: line for line in done.out.splitlines()}
    assert "(lmk run -- claude)" in names["claude-code"]
    assert {"codex", "aider", "litellm", "langchain", "llama-index", "openai"} <= names.keys()
    assert "LLAMAKEY" not in done.out


def test_an_agents_file_is_written_and_the_users_own_is_not(lmk, key):
    lmk.env_file.write_text(key)
    own = lmk.folder.parent / "home" / ".codex" / "config.toml"
    own.parent.mkdir()
    own.write_text('model = "mine"\n')
    environ = in_bash(lmk.here("env", "--for", "codex,claude-code").out)
    file = Path(environ["CODEX_HOME"]) / "config.toml"
    assert file.is_relative_to(lmk.home / "clients")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    folders = [file.parent, *file.parent.parents]
    ours = folders[: folders.index(lmk.home)]
    assert len(ours) == 3
    # Gemini CLI takes no settings from below a folder that others may write to
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in ours} == {0o700}
    config = tomllib.loads(file.read_text())
    assert (config["model"], config["model_provider"]) == ("mine", "llamakey")
    assert environ["LLAMAKEY_API_KEY"] == environ["ANTHROPIC_AUTH_TOKEN"] == key
    assert "ANTHROPIC_API_KEY" not in environ
    assert own.read_text() == 'model = "mine"\n'


def test_without_a_key_no_agents_file_is_written(lmk):
    assert lmk.here("env", "--for", "codex").code == 0
    assert not (lmk.home / "clients").exists()


def test_tools_get_what_a_clients_file_offers(lmk, key):
    lmk.env_file.write_text(
        f"export OPENAI_API_KEY={key}\nexport OPENAI_BASE_URL=http://localhost:8000/openai/v1\n"
        f"export LLAMAKEY_API_KEY={key}\nexport LLAMAKEY_URL=http://localhost:8000\n"
    )
    environ = in_bash(lmk.here("env", "--for", "aider,opencode").out)
    assert environ["OPENAI_API_BASE"] == "http://localhost:8000/openai/v1"
    assert "GROQ_API_BASE" not in environ
    assert json.loads(environ["OPENCODE_CONFIG_CONTENT"])["enabled_providers"] == ["openai"]
