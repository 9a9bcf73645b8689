from __future__ import annotations

import copy
import dataclasses
import json
import os
import pickle
import string
import sys
import time
import traceback
import types
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from llamakey_addon import catalogue, keys
from llamakey_addon.journey import Provider, Upstream
from llamakey_addon.keys import KeyUnavailable, Secret, SecretMisuse

REAL = "sk-proj-Zq3vXw9LmT7uRb2NcY5dHj8KpS4aGe6F"


def secret(value: str = REAL, host: str = "api.openai.com") -> Secret:
    return Secret(value, hosts=frozenset({host}), source="env:OPENAI_API_KEY")


# --- Secret ---------------------------------------------------------------------------------------


def test_secret_is_given_to_its_hosts_alone():
    key = secret()
    assert key.reveal("api.openai.com") == REAL.encode()
    assert key.reveal("API.OpenAI.com") == REAL.encode()
    for host in ("", "openai.com", "api.openai.com.evil.example", "evil.example"):
        with pytest.raises(SecretMisuse) as caught:
            key.reveal(host)
        assert REAL not in str(caught.value)
        assert "api.openai.com" in str(caught.value)


def test_secret_says_what_it_is_without_saying_it():
    key = secret()
    assert repr(key) == "Secret(sk-p…Ge6F from env:OPENAI_API_KEY)"
    assert key.masked == "sk-p…Ge6F"
    assert key.source == "env:OPENAI_API_KEY"


@pytest.mark.parametrize(
    ("value", "masked"),
    [("a", "…"), ("a" * 15, "…"), ("ab" + "x" * 12 + "yz", "ab…yz"), ("q" * 31, "qqq…qqq")],
)
def test_a_short_key_shows_less(value, masked):
    assert secret(value).masked == masked


def every_text_form(key: Secret) -> list[str]:
    provider = Provider(
        id="openai",
        prefix="openai",
        entry=catalogue.load().entries["openai"],
        upstream=Upstream("https", "api.openai.com", 443),
        secret=key,
    )
    forms = [
        repr(key),
        str(key),
        f"{key}",
        f"{key!s:>80}",
        f"{key!r}",
        "%s %r" % (key, key),  # noqa: UP031
        repr([key]),
        repr({"key": key}),
        repr(provider),
        str(dataclasses.asdict(provider)),
        repr(copy.copy(key)),
        repr(copy.deepcopy({"key": key})),
    ]
    try:
        held = key
        raise RuntimeError(f"it broke with {held}")
    except RuntimeError as error:
        shown = traceback.TracebackException.from_exception(error, capture_locals=True)
        forms.append("".join(shown.format()))
    return forms


@given(st.text(alphabet=string.ascii_letters + string.digits + "-_", min_size=16, max_size=200))
def test_no_text_form_holds_the_key(value):
    # Hypothesis tries words of the code, and a catalogue's word stands there whatever the key is.
    assume(not any(value in form for form in every_text_form(secret(REAL))))
    for form in every_text_form(secret(value)):
        assert value not in form
        assert value.encode().hex() not in form


def test_a_secret_cannot_be_written_out():
    key = secret()
    for write in (pickle.dumps, lambda k: pickle.dumps(k, 0), lambda k: pickle.dumps({"k": k})):
        with pytest.raises(SecretMisuse) as caught:
            write(key)
        assert REAL not in str(caught.value)
    with pytest.raises(TypeError) as failed:
        json.dumps(key)
    assert REAL not in str(failed.value)
    assert not hasattr(key, "__dict__")


def test_a_secret_does_not_change():
    key = secret()
    for name in ("_hosts", "_value", "source", "new"):
        with pytest.raises(SecretMisuse):
            setattr(key, name, frozenset({"evil.example"}))
        with pytest.raises(SecretMisuse):
            delattr(key, name)
    assert key.reveal("api.openai.com") == REAL.encode()


def test_secrets_are_equal_only_to_themselves():
    one, other = secret(), secret()
    assert one == one
    assert one != other
    texts: tuple[object, ...] = (REAL, REAL.encode(), repr(one))
    assert one not in texts


# --- references -----------------------------------------------------------------------------------


def test_env_reference_is_stripped(tmp_path):
    assert keys.read_reference("env:A", {"A": f"  {REAL}\r\n"}, tmp_path) == REAL


def test_file_reference_is_relative_and_stripped(tmp_path):
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "key").write_bytes(b"\xef\xbb\xbf" + REAL.encode() + b"\n\n")
    assert keys.read_reference("file:secrets/key", {}, tmp_path) == REAL
    assert keys.read_reference(f"file:{tmp_path}/secrets/key", {}, Path("/")) == REAL


def python(code: str) -> str:
    return f'cmd:{sys.executable} -c "{code}"'


def test_cmd_reference_gets_our_environment_and_folder(tmp_path):
    (tmp_path / "key").write_text(REAL)
    ref = python("import os; print(open('key').read() + os.environ['TAIL'])")
    assert keys.read_reference(ref, {**os.environ, "TAIL": "-x"}, tmp_path) == f"{REAL}-x"


def test_cmd_is_no_shell(tmp_path):
    value = keys.read_reference("cmd:echo $HOME; touch made", dict(os.environ), tmp_path)
    assert value == "$HOME; touch made"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("ref", "words"),
    [
        ("env:NOPE", ["set NOPE"]),
        ("env:BLANK", ["set BLANK"]),
        ("env:", ["names nothing", "env:OPENAI_API_KEY"]),
        ("file:nope", ["nope", "No such file", "chmod 600"]),
        ("file:.", ["directory"]),
        ("file:empty", ["empty"]),
        ("file:binary", ["no text"]),
        ("file:long", ["64 KiB"]),
        ("cmd:", ["names nothing"]),
        ("cmd:/nope/nope --token abc", ["cmd:nope …", "can't be started"]),
        ("cmd:sh 'unclosed", ["quotes"]),
        ("cmd:true", ["empty key"]),
        ("keyring:service", ["SERVICE/USER"]),
        ("nothing", ["env:NAME"]),
        ("vault:x", ["env:NAME"]),
    ],
)
def test_a_reference_that_leads_nowhere_names_the_remedy(tmp_path, ref, words):
    (tmp_path / "empty").write_text(" \n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "long").write_text("x" * 70000)
    environ = {"BLANK": " ", "PATH": os.environ["PATH"]}
    with pytest.raises(KeyUnavailable) as caught:
        keys.read_reference(ref, environ, tmp_path)
    for word in words:
        assert word in str(caught.value)
    assert "abc" not in str(caught.value)


def test_a_failing_command_says_its_exit_code_and_not_its_output(tmp_path):
    ref = python(f"import sys; print('{REAL}'); print('{REAL}', file=sys.stderr); sys.exit(7)")
    with pytest.raises(KeyUnavailable) as caught:
        keys.read_reference(ref, dict(os.environ), tmp_path)
    assert "exit code 7" in str(caught.value)
    assert REAL not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "code",
    [
        "import time; time.sleep(600)",
        "import time, os; os.close(1); time.sleep(600)",
    ],
)
def test_a_command_that_hangs_is_ended(tmp_path, monkeypatch, code):
    monkeypatch.setattr(keys, "_COMMAND_TIMEOUT_S", 0.7)
    started_s = time.monotonic()
    with pytest.raises(KeyUnavailable, match="did not end within"):
        keys.read_reference(python(code), dict(os.environ), tmp_path)
    assert time.monotonic() - started_s < 8


def test_a_child_that_holds_the_pipe_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(keys, "_COMMAND_TIMEOUT_S", 2)
    ref = python("import subprocess; subprocess.Popen(['sleep', '600']); print('the-key')")
    assert keys.read_reference(ref, dict(os.environ), tmp_path) == "the-key"


def test_an_endless_command_is_ended(tmp_path):
    with pytest.raises(KeyUnavailable, match="64 KiB"):
        keys.read_reference("cmd:yes", dict(os.environ), tmp_path)


def fake_keyring(monkeypatch, get_password) -> None:
    module = types.ModuleType("keyring")
    module.get_password = get_password  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keyring", module)


def test_keyring_reference(tmp_path, monkeypatch):
    fake_keyring(
        monkeypatch, lambda service, user: {("a/b", "openai"): f"{REAL}\n"}.get((service, user))
    )
    assert keys.read_reference("keyring:a/b/openai", {}, tmp_path) == REAL
    with pytest.raises(KeyUnavailable, match="keyring set a other"):
        keys.read_reference("keyring:a/other", {}, tmp_path)


def test_a_failing_keyring_shows_nothing_of_its_words(tmp_path, monkeypatch):
    def fail(service, user):
        raise RuntimeError(f"locked: {REAL}")

    fake_keyring(monkeypatch, fail)
    with pytest.raises(KeyUnavailable, match="RuntimeError") as caught:
        keys.read_reference("keyring:a/b", {}, tmp_path)
    assert REAL not in "".join(traceback.format_exception(caught.value))


def test_keyring_is_an_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(KeyUnavailable, match=r"pip install 'llamakey\[keyring\]'"):
        keys.read_reference("keyring:a/b", {}, tmp_path)


@pytest.mark.parametrize(
    ("ref", "shown"),
    [
        ("env:A", "env:A"),
        ("file:~/x", "file:~/x"),
        ("keyring:a/b", "keyring:a/b"),
        (f"cmd:/usr/bin/curl -H 'Authorization: {REAL}' https://v", "cmd:curl …"),
        ("cmd:op", "cmd:op"),
        (REAL, "a key in clear"),
    ],
)
def test_shown_reference(ref, shown):
    assert keys.shown_reference(ref) == shown


# --- local keys -----------------------------------------------------------------------------------


def test_minted_keys_are_as_promised():
    minted = [keys.mint() for _ in range(200)]
    assert len({m.id for m in minted}) == 200
    for m in minted:
        assert len(m.text) == len("sk-lmk-") + 10 + 1 + 43 + 6
        assert m.text.startswith(f"sk-lmk-{m.id}-")
        assert len(m.digest) == 32
        assert m.text not in repr(m)
        assert m.text.isascii()


@given(st.integers(0, 3))
def test_mint_and_parse_are_a_round_trip(prefix):
    minted = keys.mint()
    text = ("", "hf_", "r8_", "pplx-")[prefix] + minted.text
    parsed = keys.parse(text)
    assert parsed == keys.Parsed(minted.id, minted.digest)
    assert minted.digest.hex() not in repr(parsed)
    assert keys.looks_local(text)


@given(
    st.data(),
    st.sampled_from(string.ascii_letters + string.digits + string.punctuation + " \0\n\x7fé"),
)
def test_one_changed_character_never_parses(data, char):
    text = keys.mint().text
    at = data.draw(st.integers(0, len(text) - 1))
    changed = text[:at] + char + text[at + 1 :]
    assert (keys.parse(changed) is None) == (changed != text)


@given(st.data())
def test_two_swapped_neighbours_never_parse(data):
    text = keys.mint().text
    at = data.draw(st.integers(0, len(text) - 2))
    swapped = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    assert (keys.parse(swapped) is None) == (swapped != text)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t + "\n",
        lambda t: " " + t,
        lambda t: t + "A",
        lambda t: t[:-1],
        lambda t: "Bearer " + t,
        lambda t: "__" + t,
        lambda t: t.upper(),
        lambda t: t + t,
        lambda t: "",
        lambda t: "sk-lmk-",
        lambda t: t.replace("a", "а"),  # noqa: RUF001  Cyrillic
    ],
)
def test_what_is_no_key_does_not_parse(change):
    text = "sk-lmk-" + keys.mint().text[7:]
    if change(text) != text:
        assert keys.parse(change(text)) is None


@given(st.text(max_size=100))
def test_parse_takes_anything(text):
    assert keys.parse(text) is None


def test_mask_local():
    minted = keys.mint()
    assert keys.mask_local(minted.text) == f"sk-lmk-{minted.id}-…"
    assert keys.mask_local(f"hf_{minted.text}") == f"sk-lmk-{minted.id}-…"
    assert keys.mask_local("sk-lmk-broken") == "sk-lmk-…"


@given(st.text(alphabet=" \n{}:\"',/?&=é", max_size=20), st.text(alphabet=' \n"&,é', max_size=20))
def test_redact_masks_every_key(before, after):
    one, two = keys.mint(), keys.mint()
    text = f"{before}{one.text}{after} hf_{two.text[:-3]}"
    for shown in (keys.redact(text), keys.redact(text.encode()).decode()):
        for minted in (one, two):
            assert minted.text[18:50] not in shown
            assert f"sk-lmk-{minted.id}-" in shown
        assert shown.startswith(before)
    assert keys.redact(keys.redact(text)) == keys.redact(text)
    assert keys.redact(keys.redact(text.encode())) == keys.redact(text.encode())


def test_redact_keeps_ascii_bytes_ascii():
    assert keys.redact(keys.mint().text.encode()).isascii()
    assert keys.redact(b"nothing here") == b"nothing here"
