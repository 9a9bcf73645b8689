"""Environments as shells read them: what a variable holds there is what it was to hold."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from llamakey_addon.clients import SHELLS, Line, Shell, env_file, render
from tests.catalogue.providers import every

PROVIDERS = list(every().values())
URL = "http://localhost:8000"
KEY = "sk-lmk-abcdefghij-secret"
AWKWARD = "a b'c\"d$HOME`id`\\e;f&g|h*~#!%é\u2019"


def test_bash_reads_what_was_meant(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text(render("bash", [Line("AWKWARD", AWKWARD, "x\ny"), Line("", "", "hint")]))
    got = subprocess.run(
        ["bash", "-c", 'source "$1" && printf %s "$AWKWARD"', "-", str(file)],
        capture_output=True,
        text=True,
        check=True,
        env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"},
    )
    assert (got.stdout, got.stderr) == (AWKWARD, "")


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish_reads_what_was_meant(tmp_path: Path) -> None:
    file = tmp_path / "env.fish"
    file.write_text(render("fish", [Line("AWKWARD", AWKWARD, "")]))
    got = subprocess.run(
        ["fish", "-c", f"source {file}; printf %s $AWKWARD"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert got.stdout == AWKWARD


@pytest.mark.parametrize(
    ("shell", "text"),
    [
        ("bash", "export K='it'\"'\"'s'\n"),
        ("fish", "set -gx K 'it\\'s'\n"),
        ("powershell", "$env:K = 'it''s'\n"),
        ("dotenv", 'K="it\'s"\n'),
        ("json", '{\n  "K": "it\'s"\n}\n'),
    ],
)
def test_quoting(shell: Shell, text: str) -> None:
    assert render(shell, [Line("K", "it's", "")]) == text


@pytest.mark.parametrize(
    ("shell", "text"),
    [
        ("fish", "set -gx K 'a\\\\b'\n"),
        ("powershell", "$env:K = 'a\\b'\n"),
        ("dotenv", 'K="a\\\\b"\n'),
    ],
)
def test_backslash(shell: Shell, text: str) -> None:
    assert render(shell, [Line("K", "a\\b", "")]) == text


def test_powershell_doubles_typographic_quotes() -> None:
    assert render("powershell", [Line("K", "a\u2019b", "")]) == "$env:K = 'a\u2019\u2019b'\n"


def test_dotenv_has_no_quotes_where_none_are_needed() -> None:
    assert render("dotenv", [Line("K", f"{URL}/openai/v1", "")]) == f"K={URL}/openai/v1\n"


def test_comments_stand_once_and_on_one_line() -> None:
    lines = [Line("A", "1", "sdk\r\nrm -rf"), Line("B", "2", "sdk\r\nrm -rf"), Line("", "", "end")]
    assert render("dotenv", lines) == "# sdk rm -rf\nA=1\nB=2\n# end\n"


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_gets_every_variable(shell: Shell) -> None:
    text = env_file(PROVIDERS, URL, KEY, name="laptop", shell=shell)
    assert f"{URL}/openai/v1" in text
    assert text.count(KEY) > 20
    if shell == "json":
        assert json.loads(text)["HF_TOKEN"] == f"hf_{KEY}"
    else:
        assert text.startswith(
            "# LlamaKey: sends LLM SDKs to http://localhost:8000, with the local key 'laptop'.\n"
        )
        assert f'server_url="{URL}/mistral"' in text
        assert "NO_PROXY" in text and "localhost,127.0.0.1" in text


def test_file_is_sourced_whole(tmp_path: Path) -> None:
    file = tmp_path / "llamakey_local.env"
    file.write_text(env_file(PROVIDERS, URL, KEY, name="it's mine"))
    got = subprocess.run(
        ["bash", "-euc", 'source "$1"; echo "$OPENAI_BASE_URL $CO_API_URL $HF_TOKEN"', "-", file],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin"},
    )
    assert got.stdout == f"{URL}/openai/v1 {URL}/cohere hf_{KEY}\n"
    assert got.stderr == ""


def test_a_teammates_file_names_its_own_host_for_no_proxy() -> None:
    text = env_file(PROVIDERS, "https://llm.corp.example", KEY, only=["openai"])
    assert "add llm.corp.example to NO_PROXY" in text
    assert "127.0.0.1" not in text


@pytest.mark.parametrize(
    ("shell", "text"),
    [
        ("bash", "unset K\n"),
        ("fish", "set -e K\n"),
        ("powershell", "Remove-Item Env:K -ErrorAction SilentlyContinue\n"),
        ("dotenv", "K=\n"),
        ("json", '{\n  "K": ""\n}\n'),
    ],
)
def test_a_variable_without_a_value_is_taken_out(shell: Shell, text: str) -> None:
    assert render(shell, [Line("K", "", "")]) == text
