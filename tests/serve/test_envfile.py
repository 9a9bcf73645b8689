"""What is read from a client's file, whoever wrote it."""

from __future__ import annotations

import pytest

from llamakey_addon import keys
from llamakey_addon.serve import envfile


def test_what_is_written_is_read_again():
    key = keys.mint().text
    text = envfile.content([], "https://llm.corp.example", key, "bob")
    assert envfile.find_keys(text) == [key]
    assert envfile.find_url(text) == "https://llm.corp.example"
    assert envfile.find_variables(text) >= {"LLAMAKEY_URL", "LLAMAKEY_API_KEY"}


@pytest.mark.parametrize(
    "line",
    [
        "LLAMAKEY_URL=http://h:1",
        "export LLAMAKEY_URL='http://h:1'",
        ' LLAMAKEY_URL = "http://h:1"',
        "set -gx LLAMAKEY_URL 'http://h:1'",
        "$env:LLAMAKEY_URL = 'http://h:1'",
        '  "LLAMAKEY_URL": "http://h:1",',
    ],
)
def test_urls_of_every_shell(line):
    assert envfile.find_url(f"# x\n{line}\ny=1\n") == "http://h:1"
    assert envfile.find_variables(line) == {"LLAMAKEY_URL"}


@pytest.mark.parametrize("line", ["", "LLAMAKEY_URL=ftp://x", "NOT_LLAMAKEY_URL=http://x"])
def test_what_is_no_url(line):
    assert envfile.find_url(line) == ""


def test_a_client_s_prefix_is_no_part_of_a_key():
    key = keys.mint().text
    assert envfile.find_keys(f"HF_TOKEN=hf_{key}") == [key]
