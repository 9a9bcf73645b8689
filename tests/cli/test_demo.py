"""`lmk demo`: what a newcomer runs first."""

from __future__ import annotations

import io

import pytest

from llamakey_addon.cli import demo_show
from llamakey_addon.cli.demo import REAL_KEY, SDK_PROGRAM, DemoFailed, play
from tests.cli.command import ANSI, LOCAL_KEY
from tests.starts import ROOT


def test_the_demo_shows_who_saw_what_and_leaves_nothing(lmk, tmp_path):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    done = lmk("demo", env={"TMPDIR": str(temporary), "OPENAI_API_KEY": "", "HTTP_PROXY": ""})
    assert done.code == 0, done.out + done.err
    assert done.err == ""
    client, _, rest = done.out.partition("== What the client sent")[2].partition(
        "== What the provider got"
    )
    provider, _, log = rest.partition("== What the log holds")
    assert "Bearer sk-lmk-" in client
    assert REAL_KEY not in client
    assert f"Authorization: Bearer {REAL_KEY}" in provider
    assert "sk-lmk-" not in provider
    assert "path: /v1/chat/completions" in log
    assert REAL_KEY not in log
    assert done.out.count("\nok: ") == 4
    assert "FAILED" not in done.out
    assert not LOCAL_KEY.search(done.out)
    assert not ANSI.search(done.out)
    assert list(temporary.iterdir()) == []
    assert list(lmk.folder.iterdir()) == []
    assert not lmk.home.exists()


@pytest.mark.parametrize("columns", [60, 130])
def test_the_demo_on_a_terminal(lmk, columns):
    done = lmk.on_terminal("demo", columns=columns)
    assert done.code == 0, done.out
    lines = ANSI.sub("", done.out).splitlines()
    assert max(len(line.rstrip()) for line in lines) <= columns
    assert any("What the client sent" in line for line in lines)
    assert sum("What the" in line for line in lines) == (1 if columns >= 120 else 3)
    assert not LOCAL_KEY.search(done.out)


def test_a_port_or_key_of_the_owner_s_does_not_matter(lmk):
    done = lmk(
        "demo",
        env={
            "OPENAI_API_KEY": "sk-proj-somebody-elses-real-key-000000",
            "OPENAI_BASE_URL": "http://127.0.0.1:9/",
            "HTTPS_PROXY": "http://127.0.0.1:9",
            "HTTP_PROXY": "http://127.0.0.1:9",
        },
    )
    assert done.code == 0, done.out + done.err
    assert "somebody-elses" not in done.out


@pytest.mark.sdk
def test_the_call_of_the_real_sdk():
    python = ROOT / ".sdks" / "current" / "bin" / "python"
    if not python.exists():
        pytest.skip(".sdks/ is made by scripts/test")
    seen = play(SDK_PROGRAM, str(python))
    out = io.StringIO()
    assert not demo_show.verdict(seen, out), out.getvalue()
    assert any(name.lower() == "x-stainless-lang" for name, _ in seen.client[0].headers)


def test_a_client_that_fails_is_shown_and_nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(DemoFailed, match="no such thing"):
        play("raise SystemExit('no such thing')")
    assert list(tmp_path.iterdir()) == []


def test_a_leak_is_called_one():
    seen = play("print('nothing was called')")
    out = io.StringIO()
    assert demo_show.verdict(seen, out)
    assert "FAILED: The client printed both answers." in out.getvalue()
