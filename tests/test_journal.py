"""The log: one line a request, nothing forged, no key, and no request stopped by it."""

from __future__ import annotations

import io
import json
import os
import stat
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llamakey_addon import keys
from llamakey_addon.journal import Journal, escape
from llamakey_addon.journal.line import Style
from llamakey_addon.journal.words import duration, size
from llamakey_addon.journey import Quality, Receipt

RECEIPT = Receipt(
    id="lmk_0f2c41d88e5b6a70",
    time_s=1795467062.25,
    peer="127.0.0.1",
    user="alice",
    key_name="alice-laptop",
    provider="openai",
    endpoint="chat",
    method="POST",
    path="/v1/chat/completions",
    model="gpt-4o-mini",
    status=200,
    bytes_up=1234,
    bytes_down=34567,
    first_byte_ms=210.04,
    total_ms=812.3,
    end="complete",
)


def with_field(name: str, value: str) -> Receipt:
    changes: dict[str, Any] = {name: value}
    return replace(RECEIPT, **changes)


def settings(console: bool = False, file: Path | None = None) -> Any:
    return SimpleNamespace(logging=SimpleNamespace(console=console, file=file))


def console(*items: Receipt | str) -> str:
    """What a console that is no terminal shows."""
    stream = io.StringIO()
    journal = Journal(settings(console=True), stream)
    for item in items:
        if isinstance(item, str):
            journal.note(item)
        else:
            journal.write(item)
    journal.close()
    return stream.getvalue()


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def style(width: int, colour: bool = False) -> Style:
    return Style(terminal=True, colour=colour, width=lambda: width)


# --- console


def test_a_plain_line_holds_everything_in_its_order():
    assert console(RECEIPT) == (
        "2026-11-23T20:51:02.250Z alice openai POST /v1/chat/completions gpt-4o-mini "
        "200 812ms 1234/34567 lmk_0f2c41d88e5b6a70\n"
    )


def test_tokens_and_cost_stand_where_they_are_known(tmp_path):
    counts = {"input_tokens": 1234, "output_tokens": 56}
    cases: list[tuple[Quality, int, str]] = [
        ("exact", 4_200_000, "1.2k+56 $0.0042"),
        ("estimated", 12_345_678_900, "~1.2k+56 $12.35"),
        ("unpriced", 0, "1.2k+56 $?"),
        ("free", 0, "1.2k+56 free"),
        ("exact", 31, "1.2k+56 $0.000000031"),
    ]
    for quality, cost_nusd, shown in cases:
        receipt = replace(RECEIPT, counts=counts, cost_nusd=cost_nusd, quality=quality)
        assert shown.replace(" ", "=") in console(receipt)
        assert shown[:15] in style(80).request(receipt)
        assert shown[:14] in style(140).request(receipt)
    assert "$" not in console(RECEIPT)


def test_what_is_missing_is_a_dash_so_that_columns_stay():
    line = console(replace(RECEIPT, user="", model="", provider="", status=0, end="client left"))
    assert " - - POST /v1/chat/completions - - 812ms " in line
    assert line.endswith(" (client left)\n")


def test_a_denial_and_a_note_for_the_owner_stand_at_the_end():
    line = console(
        replace(RECEIPT, status=403, end="denied", denied="permission_denied", note="stopped by x")
    )
    assert line.endswith("lmk_0f2c41d88e5b6a70 (permission_denied; stopped by x)\n")


@pytest.mark.parametrize("field", ["user", "model", "path", "method", "note"])
def test_a_client_cannot_forge_a_line_or_speak_to_the_terminal(field, tmp_path):
    nasty = "a\r\nb\x1b[2Jc\x9bd\u202ee\u2028f\ud800g\\n"
    receipt = with_field(field, nasty)
    file = tmp_path / "log.jsonl"
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    journal = Journal(settings(console=True, file=file), stream)
    journal.write(receipt)
    journal.close()
    stream.seek(0)
    shown = stream.read()
    assert len(shown.splitlines()) == 1
    assert "a\\x0d\\x0ab\\x1b[2Jc\\x9bd\\u202ee\\u2028f\\ud800g\\\\n" in shown
    assert shown.rstrip("\n").isprintable()
    assert len(file.read_bytes().splitlines()) == 1
    assert records(file)[0][field].startswith("a\\x0d")


def test_a_record_is_json_whatever_was_asked_for(tmp_path):
    """Its words are kept from one line to the next, but for what is too long for that."""
    file = tmp_path / "log.jsonl"
    journal = Journal(settings(file=file))
    words = ["", "plain", 'quo"ted', "back\\slash", "\u2028", "x" * 5000, "\ud800"]
    for word in [*words, *words]:
        journal.write(replace(RECEIPT, model=word, path=f"/v1/{word}", peer=word, tag=word))
    journal.close()
    found = records(file)
    assert found[: len(words)] == found[len(words) :]
    for word, record in zip(words, found, strict=False):
        shown = escape(word) if len(word) < 2048 else f"{word[:2047]}…"
        assert (record["model"], record["peer"], record["tag"]) == (shown,) * 3
        assert record["path"][:2047] == f"/v1/{escape(word)}"[:2047]
        assert list(record)[:4] == ["time", "id", "peer", "user"]


def test_the_query_is_not_shown(tmp_path):
    file = tmp_path / "log.jsonl"
    journal = Journal(settings(file=file))
    journal.write(replace(RECEIPT, path="/v1/x?key=abc"))
    journal.close()
    assert "abc" not in file.read_text()
    assert "abc" not in console(replace(RECEIPT, path="/v1/x?key=abc"))


@pytest.mark.parametrize("field", ["user", "model", "path", "method", "note", "denied", "end"])
def test_local_keys_are_masked_wherever_they_stand(field, tmp_path):
    key = keys.mint()
    receipt = with_field(field, f"/x/{key.text}/y")
    file = tmp_path / "log.jsonl"
    stream = io.StringIO()
    journal = Journal(settings(console=True, file=file), stream)
    journal.write(receipt)
    journal.note(f"somebody sent {key.text}")
    journal.close()
    for text in (file.read_text(), stream.getvalue(), style(80).request(receipt)):
        assert key.text[-20:] not in text
    assert key.id in file.read_text()


def test_a_long_path_is_cut_in_its_middle_and_both_ends_stay():
    path = "/v1/" + "a" * 5000 + "/end"
    line = console(replace(RECEIPT, path=path))
    assert len(line) < 600
    assert " /v1/aaa" in line
    assert "aaa/end " in line


def test_notes_keep_their_lines():
    first, second = console("config.yaml:3: no\nconfig.yaml:4: neither").splitlines()
    assert first.endswith("Z config.yaml:3: no")
    assert second.endswith("Z config.yaml:4: neither")


@pytest.mark.parametrize("width", [40, 60, 80, 100, 113, 114, 120, 200])
def test_on_a_terminal_no_line_is_wider_than_the_screen(width):
    receipt = replace(
        RECEIPT, path="/v1/" + "abc/" * 80, model="m" * 90, user="u" * 60, provider="p" * 30
    )
    lines = style(width).request(receipt).splitlines()
    assert max(map(len, lines)) <= width
    assert receipt.id in lines[-1], "the id is never cut: people search the log for it"
    refused = replace(receipt, denied="permission_denied", note="word " * 50, user="")
    lines = style(width).request(refused).splitlines()
    assert max(map(len, lines)) <= width
    assert any(receipt.id in line for line in lines)
    assert max(map(len, style(width).note(0.0, "word " * 50).splitlines())) <= width


def test_on_a_wide_terminal_columns_stand_below_each_other():
    other = replace(RECEIPT, path="/v1/models", model="", method="GET", user="bob", total_ms=3.1)
    lines = [style(140).request(receipt) for receipt in (RECEIPT, other)]
    assert len({line.index("lmk_0f") for line in lines}) == 1
    assert len({line.index("/v1/") for line in lines}) == 1


def test_colour_is_for_terminals_that_want_it(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert "\x1b[" in Style.of(Terminal()).request(RECEIPT)
    assert "\x1b[" not in Style.of(io.StringIO()).request(RECEIPT)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in Style.of(Terminal()).request(RECEIPT)


def test_a_console_that_cannot_spell_a_model_escapes_it():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    journal = Journal(settings(console=True), stream)
    journal.write(replace(RECEIPT, model="llämä"))
    journal.write(RECEIPT)
    journal.close()
    stream.seek(0)
    first, second = stream.read().splitlines()
    assert "ll\\xe4m\\xe4" in first
    assert "gpt-4o-mini" in second


def test_a_console_that_stands_still_holds_nothing():
    reader, writer = os.pipe()
    stream = os.fdopen(writer, "w")
    journal = Journal(settings(console=True), stream)
    done = threading.Event()

    def flood() -> None:
        for _ in range(30_000):  # more than a pipe and the queue take
            journal.write(RECEIPT)
        done.set()

    threading.Thread(target=flood, daemon=True).start()
    assert done.wait(60)
    lines: list[str] = []

    def read() -> None:
        with os.fdopen(reader) as source:
            lines.extend(source)

    thread = threading.Thread(target=read)
    thread.start()
    journal.close()
    stream.close()
    thread.join()
    assert sum("lines dropped" in line for line in lines) == 1
    assert len(lines) < 30_000


def test_a_console_whose_reader_has_gone_is_let_go():
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w")
    journal = Journal(settings(console=True), stream)
    for _ in range(3):
        journal.write(RECEIPT)
        journal.flush()
    journal.close()
    with pytest.raises(BrokenPipeError):
        stream.close()


# --- file


def test_the_file_is_private_appended_and_whole(tmp_path):
    file = tmp_path / "log.jsonl"
    for _ in range(2):
        journal = Journal(settings(file=file))
        journal.write(RECEIPT)
        journal.close()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    first, second = records(file)
    assert first == second
    assert first == {
        "time": "2026-11-23T20:51:02.250Z",
        "id": RECEIPT.id,
        "peer": "127.0.0.1",
        "user": "alice",
        "key": "alice-laptop",
        "provider": "openai",
        "endpoint": "chat",
        "method": "POST",
        "path": "/v1/chat/completions",
        "model": "gpt-4o-mini",
        "status": 200,
        "bytes_up": 1234,
        "bytes_down": 34567,
        "first_byte_ms": 210.0,
        "total_ms": 812.3,
        "team": "",
        "tag": "",
        "input_tokens": 0,
        "output_tokens": 0,
        "cost_nusd": 0,
        "quality": "none",
        "end": "complete",
    }


def test_lines_are_there_at_once(tmp_path):
    file = tmp_path / "log.jsonl"
    journal = Journal(settings(file=file))
    journal.write(RECEIPT)
    assert len(records(file)) == 1
    journal.close()


def test_a_rotated_file_is_followed(tmp_path):
    file = tmp_path / "log.jsonl"
    journal = Journal(settings(file=file))
    journal.write(RECEIPT)
    file.rename(tmp_path / "log.1.jsonl")
    journal.write(RECEIPT)
    file.unlink()
    journal.write(RECEIPT)
    journal.reopen()
    journal.write(RECEIPT)
    journal.close()
    assert len(records(tmp_path / "log.1.jsonl")) == 1
    assert len(records(file)) == 2


def test_a_reload_moves_to_the_file_that_is_named_now(tmp_path):
    journal = Journal(settings(file=tmp_path / "a"))
    journal.reload(settings(file=tmp_path / "b"))
    journal.write(RECEIPT)
    journal.reload(settings())
    journal.write(RECEIPT)
    journal.close()
    assert records(tmp_path / "a") == []
    assert len(records(tmp_path / "b")) == 1


def test_a_failed_write_is_reported_once_and_so_is_its_end(tmp_path, capfd):
    folder = tmp_path / "gone"
    file = folder / "log.jsonl"
    journal = Journal(settings(file=file))
    for _ in range(3):
        journal.write(RECEIPT)
    error = capfd.readouterr().err
    assert error.count("can't be written") == 1
    assert "logging.file" in error
    folder.mkdir()
    journal.write(RECEIPT)
    journal.write(RECEIPT)
    journal.close()
    assert "writing again" in capfd.readouterr().err
    assert len(records(file)) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_a_full_disk_stops_nothing(capfd):
    journal = Journal(settings(file=Path("/dev/full")))
    journal.write(RECEIPT)
    journal.write(RECEIPT)
    journal.close()
    assert capfd.readouterr().err.count("No space left") == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_that_nobody_reads_is_no_place_to_wait(tmp_path, capfd):
    os.mkfifo(tmp_path / "pipe")
    journal = Journal(settings(file=tmp_path / "pipe"))
    journal.write(RECEIPT)
    journal.close()
    assert "can't be written" in capfd.readouterr().err


def test_after_close_nothing_is_written_and_nothing_fails(tmp_path):
    journal = Journal(settings(console=True, file=tmp_path / "log"), io.StringIO())
    journal.close()
    journal.close()
    journal.write(RECEIPT)
    journal.note("x")
    journal.flush()
    assert records(tmp_path / "log") == []


# --- words


def test_sizes_and_durations():
    assert [size(count) for count in (0, 999, 1000, 1234, 34_567, 10**6, 2 * 10**8, 10**13)] == [
        "0", "999", "1.0k", "1.2k", "35k", "1.0M", "200M", "10000G",
    ]  # fmt: skip
    assert [duration(ms) for ms in (0.2, 812.4, 9999, 12_345, 250_000)] == [
        "0 ms", "812 ms", "9999 ms", "12.3 s", "4m10s",
    ]  # fmt: skip


def test_escaping_can_be_told_apart_from_what_it_escapes():
    assert escape("\n") != escape("\\x0a")
    assert escape("plain é 漢") == "plain é 漢"


def test_no_mitmproxy():
    import subprocess

    code = "import llamakey_addon.journal, sys; sys.exit('mitmproxy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
