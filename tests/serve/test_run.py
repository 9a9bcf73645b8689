"""The life of `lmk serve`, as a process: what it prints and writes, its reloads, its end."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import stat
import threading

import pytest

from llamakey_addon.serve import envfile
from tests.cli.command import ANSI, LOCAL_KEY, REAL_KEY, ticks
from tests.conftest import Start

# --- the start


def test_a_first_start_mints_a_key_and_writes_the_file(lmk):
    with lmk.serving(env={"OPENAI_API_KEY": REAL_KEY}) as serving:
        (key,) = envfile.find_keys(lmk.env_file.read_text())
        port = serving.port
        assert serving.get("/_llamakey/health") == (200, '{"status": "ok"}\n')
        status, body = serving.get("/anthropic/v1/models", key)
        assert status == 503, "the key is good, the provider is not ready"
        assert "Anthropic" in body
        assert serving.get("/anthropic/v1/models", key[:-1])[0] == 401
        assert serving.stop() == 0
    assert stat.S_IMODE(lmk.env_file.stat().st_mode) == 0o600
    assert [path.name for path in lmk.folder.iterdir()] == ["llamakey_local.env"]
    assert f"\nexport OPENAI_BASE_URL=http://localhost:{port}/openai/v1\n" in serving.out
    assert "\nexport OPENAI_API_KEY=sk-lmk-" in serving.out
    for text in (serving.out, serving.err):
        assert not LOCAL_KEY.search(text), "on a pipe no key is shown in full"
        assert REAL_KEY not in text
        assert not ANSI.search(text)
    rows = json.loads(lmk("keys", "list", "--json").out)
    assert [(row["name"], row["user"]) for row in rows] == [("alice", "alice")]
    assert "with your new key 'alice'" in serving.out
    assert serving.out.splitlines()[-1].endswith(" stopped")


def test_a_later_start_reuses_the_key_if_it_verifies(lmk):
    def start() -> str:
        with lmk.serving() as serving:
            serving.stop()
        (key,) = envfile.find_keys(lmk.env_file.read_text())
        return key

    first = start()
    lmk.env_file.chmod(0o644)
    assert start() == first
    assert stat.S_IMODE(lmk.env_file.stat().st_mode) == 0o600
    lmk("keys", "revoke", "alice")
    second = start()
    assert second != first
    lmk.env_file.unlink()
    third = start()
    lmk.env_file.write_text(third[:-1])
    start()
    rows = json.loads(lmk("keys", "list", "--json").out)
    assert [row["name"] for row in rows] == ["alice", "alice", "alice-2", "alice-3"]


def test_on_a_terminal_the_key_is_shown_in_full(lmk):
    done = lmk.on_terminal(
        "--listen", "localhost:0", env={"OPENAI_API_KEY": REAL_KEY}, until="Serving"
    )
    assert done.code == 0
    (key,) = envfile.find_keys(lmk.env_file.read_text())
    assert f"\nexport OPENAI_API_KEY={key}\n" in done.out
    assert REAL_KEY not in done.out
    assert "\x1b[" in done.out


@pytest.mark.parametrize("columns", [50, 80, 120])
def test_only_lines_to_copy_are_wider_than_the_terminal(lmk, columns):
    done = lmk.on_terminal(
        "--listen",
        "localhost:0",
        columns=columns,
        env={"OPENAI_API_KEY": REAL_KEY},
        until="Serving",
    )
    lines = [line.rstrip() for line in ANSI.sub("", done.out).splitlines()]
    assert [line for line in lines if len(line) > columns and "export " not in line] == []


def test_with_no_provider_ready_it_starts_and_says_what_to_set(lmk):
    with lmk.serving() as serving:
        assert serving.get("/_llamakey/health")[0] == 200
        serving.stop()
    assert "warning: No real key is set" in serving.err
    assert "OPENAI_API_KEY" in serving.err
    assert envfile.find_keys(lmk.env_file.read_text())


def test_a_local_key_in_the_owners_place_is_explained(lmk):
    key = lmk("keys", "new", "bob").out.strip()
    with lmk.serving(env={"OPENAI_API_KEY": key}) as serving:
        serving.stop()
    assert "did you source llamakey_local.env in the server's shell?" in serving.out
    assert key not in serving.out


def test_every_fault_of_the_configuration_is_told(lmk):
    (lmk.folder / "config.yaml").write_text("listn: 1\nlimits: {head_bytes: x}\n")
    done = lmk("serve")
    assert done.code == 2
    assert "error: config.yaml:1:" in done.err
    assert "error: config.yaml:2:" in done.err
    assert done.out == ""
    assert not lmk.env_file.exists()
    assert "Traceback" not in done.err


def test_a_taken_port_is_told_and_nothing_is_made(lmk):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = lmk("--listen", f"127.0.0.1:{port}")
    assert done.code == 1
    assert f"Port {port} is taken" in done.err
    assert f"(pid {os.getpid()})" in done.err
    assert f"lmk serve --listen 127.0.0.1:{port + 1}" in done.err
    assert not lmk.env_file.exists()
    assert not lmk.home.exists()


def test_a_second_one_is_told_of_the_first(lmk):
    with lmk.serving() as serving:
        done = lmk("--listen", f"localhost:{serving.port}")
        serving.stop()
    assert done.code == 1
    assert "in use by a LlamaKey" in done.err


def test_where_the_file_cannot_be_written_no_key_is_left_over(lmk):
    lmk.env_file.mkdir()
    with lmk.serving() as serving:
        assert serving.get("/openai/v1/models")[0] == 401
        serving.stop()
    assert "llamakey_local.env can't be written" in serving.err
    assert "every request will be refused" in serving.err
    assert "lmk keys new" in serving.err
    assert json.loads(lmk("keys", "list", "--json").out) == []


def test_scripts_of_the_owner_run_beside(lmk):
    script = lmk.folder / "mine.py"
    script.write_text(
        "import logging\n"
        "def client_connected(client): logging.getLogger('mine').warning('somebody came')\n"
    )
    with lmk.serving("-s", str(script)) as serving:
        serving.get("/_llamakey/health")
        serving.wait_for("warning: somebody came")
        serving.stop()
    done = lmk("serve", "-s", "nowhere.py")
    assert done.code == 2
    assert "there is no file nowhere.py" in done.err


@pytest.mark.parametrize(
    ("text", "error"),
    [("def (\n", "SyntaxError: "), ("import nowhere\n", "No module named 'nowhere'")],
)
def test_without_a_script_that_was_asked_for_nothing_is_served(lmk, text, error):
    (lmk.folder / "mine.py").write_text(text)
    done = lmk("serve", "--listen", "localhost:0", "-s", "mine.py")
    assert done.code == 1
    assert "error in script mine.py" in done.err
    assert error in done.err
    assert "Traceback" not in done.err
    assert "Serving" not in done.out


def test_mitmproxys_own_log_comes_when_asked_for(lmk):
    with lmk.serving("-v") as serving:
        serving.get("/_llamakey/health")
        serving.wait_for("client connect")
        serving.stop()
    with lmk.serving() as serving:
        serving.get("/_llamakey/health")
        serving.stop()
    assert "client connect" not in serving.out


def test_open_files_are_raised_as_far_as_they_may(lmk):
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with lmk.serving() as serving:
        limits = (f"/proc/{serving.process.pid}/limits") if os.path.exists("/proc/self") else ""
        if limits:
            with open(limits) as file:
                (line,) = (row for row in file if row.startswith("Max open files"))
            wanted = 2 * 8000 + 64
            assert int(line.split()[3]) >= (wanted if hard < 0 else min(wanted, hard))
        serving.stop()


def test_two_thousand_connections_of_one_address_are_taken(lmk):
    with lmk.serving() as serving:
        clients = [socket.create_connection(("localhost", serving.port), 30) for _ in range(2000)]
        try:
            assert serving.get("/_llamakey/health")[0] == 200
            for client in clients[::100]:
                client.sendall(b"GET /_llamakey/health HTTP/1.1\r\nHost: x\r\n\r\n")
                client.settimeout(45)
                assert client.recv(100).startswith(b"HTTP/1.1 200 ")
        finally:
            for client in clients:
                client.close()
        serving.stop()
    assert "Traceback" not in serving.err + serving.out


# --- reloads


def test_a_changed_file_is_taken(lmk):
    config = lmk.folder / "config.yaml"
    config.write_text("contact: first@corp.example\n")
    with lmk.serving() as serving:
        assert "first@corp.example" in serving.get("/openai/v1/models")[1]
        config.write_text("contact: second@corp.example\n")
        serving.wait_for("config.yaml has changed: settings taken")
        assert "second@corp.example" in serving.get("/openai/v1/models")[1]
        serving.stop()


def test_a_faulty_file_is_told_and_changes_nothing(lmk):
    config = lmk.folder / "config.yaml"
    config.write_text("contact: first@corp.example\n")
    with lmk.serving() as serving:
        config.write_text("contact: second@corp.example\ncontct: x\nlimits: {head_bytes: no}\n")
        serving.process.send_signal(signal.SIGHUP)
        serving.wait_for("goes on with the settings it has")
        serving.wait_for("config.yaml:2:")
        serving.wait_for("config.yaml:3:")
        assert "first@corp.example" in serving.get("/openai/v1/models")[1]
        config.unlink()
        serving.process.send_signal(signal.SIGHUP)
        serving.wait_for("there is no such file")
        assert "first@corp.example" in serving.get("/openai/v1/models")[1]
        serving.stop()


def test_rules_are_taken_all_or_none(lmk):
    config = lmk.folder / "config.yaml"
    config.write_text("users: {bob: {allow: []}}\n")
    with lmk.serving() as serving:
        key = lmk("keys", "new", "bob").out.strip()
        assert serving.get("/openai/v1/models", key)[0] == 403
        config.write_text(
            "users: {bob: {team: tem}}\n"
            "teams:\n"
            "  team: {limits: [{requests: 1}]}\n"
            "money: {time_zone: Nowhere/Else}\n"
        )
        serving.process.send_signal(signal.SIGHUP)
        for line in (1, 3, 4):
            serving.wait_for(f"config.yaml:{line}:")
        serving.wait_for("goes on with the settings it has")
        assert serving.get("/openai/v1/models", key)[0] == 403
        config.write_text("users: {bob: {}}\n")
        serving.wait_for("config.yaml has changed: settings taken")
        assert serving.get("/openai/v1/models", key)[0] == 503  # allowed; there is no real key
        serving.stop()


def test_a_rotated_key_is_taken_on_sighup(lmk):
    file = lmk.folder / "key.txt"
    (lmk.folder / "config.yaml").write_text("providers: {groq: {key: 'file:key.txt'}}\n")
    with lmk.serving() as serving:
        file.write_text("gsk_" + "x" * 40)
        serving.process.send_signal(signal.SIGHUP)
        serving.wait_for("now ready: groq")
        file.unlink()
        serving.process.send_signal(signal.SIGHUP)
        serving.wait_for("no longer ready: groq")
        serving.stop()


def test_what_needs_a_restart_says_so(lmk):
    config = lmk.folder / "config.yaml"
    config.write_text("contact: x\n")
    with lmk.serving() as serving:
        config.write_text("view: {max_flows: 5}\nlisten: localhost:1234\n")
        serving.process.send_signal(signal.SIGHUP)
        serving.wait_for("view, listen: changed, and taken at the next start")
        serving.process.send_signal(signal.SIGUSR2)
        serving.wait_for("restarts without a gap need `workers` of 2 or more")
        serving.stop()


def test_a_reload_moves_the_log(lmk):
    config = lmk.folder / "config.yaml"
    config.write_text("logging: {file: one.jsonl}\n")
    with lmk.serving() as serving:
        serving.get("/openai/v1/models")
        config.write_text("logging: {file: two.jsonl}\n")
        serving.process.send_signal(signal.SIGHUP)
        serving.wait_for("settings taken")
        serving.get("/openai/v1/models")
        serving.stop()
    for name in ("one.jsonl", "two.jsonl"):
        lines = [json.loads(line) for line in (lmk.folder / name).read_text().splitlines()]
        assert sum(line.get("status") == 401 for line in lines) == 1
        assert stat.S_IMODE((lmk.folder / name).stat().st_mode) == 0o600


# --- keys of others


def test_a_revoked_key_is_refused_at_once(lmk):
    with lmk.serving() as serving:
        key = lmk("keys", "new", "bob").out.strip()
        assert serving.get("/anthropic/v1/models", key)[0] == 503
        lmk("keys", "revoke", "bob")
        status, body = serving.get("/anthropic/v1/models", key)
        assert status == 401
        assert "revoked" in body
        serving.stop()


# --- the end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_well(lmk, number):
    with lmk.serving() as serving:
        serving.get("/_llamakey/health")
        assert serving.stop(number) == 0
    assert "Traceback" not in serving.err
    assert serving.err.count("\n") <= 3


def test_a_running_answer_ends_before_the_proxy_does(proxy: Start, world):
    running = proxy()
    gate = world.gate("drain")
    gate.release(1)
    got: list[bytes] = []
    connection = http.client.HTTPConnection("localhost", running.port, timeout=45)
    body = json.dumps({"model": "m", "messages": [], "stream": True})
    headers = {"Authorization": f"Bearer {running.local_key}", "Content-Type": "application/json"}
    headers["X-Fake-Gate"] = "drain"
    connection.request("POST", "/openai/v1/chat/completions", body, headers)
    answer = connection.getresponse()
    assert answer.status == 200
    reader = threading.Thread(target=lambda: got.append(answer.read()))
    reader.start()
    running.process.send_signal(signal.SIGTERM)
    running.wait_for_output("stopping: waiting up to 3 s for running requests")
    assert not running.healthy()
    assert running.process.poll() is None
    gate.open()
    reader.join(20)
    assert b"[DONE]" in got[0]
    assert running.process.wait(60) == 0
    connection.close()


def test_a_second_interrupt_does_not_wait(lmk):
    (lmk.folder / "config.yaml").write_text("limits: {drain_timeout_s: 600}\n")
    with lmk.serving() as serving:
        client = socket.create_connection(("localhost", serving.port), 10)
        key = envfile.find_keys(lmk.env_file.read_text())[0]
        client.sendall(
            b"POST /ollama/api/chat HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Authorization: Bearer %b\r\nContent-Length: 99\r\n\r\n{" % key.encode()
        )
        for _ in ticks(10):
            serving.process.send_signal(0)
            if serving.get("/_llamakey/health")[0] == 200:
                break
        serving.process.send_signal(signal.SIGINT)
        serving.wait_for("stopping: waiting")
        assert serving.stop(signal.SIGINT) == 0
        client.close()
    assert "Traceback" not in serving.err + serving.out


def test_its_port_is_free_again_at_once(lmk):
    with lmk.serving() as serving:
        port = serving.port
        serving.get("/_llamakey/health")
        serving.stop()
    with lmk.serving("--listen", f"localhost:{port}") as again:
        assert again.port == port
        again.stop()


def test_plain_http_beyond_loopback_needs_a_word(lmk):
    done = lmk("--listen", "0.0.0.0:0")
    assert done.code == 2
    assert "allow_plain" in done.err


def test_the_table_names_what_switches_a_provider_on(lmk):
    with lmk.serving(env={"OPENAI_API_KEY": REAL_KEY}) as serving:
        serving.stop()
    assert re.search(
        r"^openai +ready +/openai +https://api.openai.com +sk-p…9dF3 ", serving.out, re.M
    )
    assert re.search(r"^anthropic +off .* set ANTHROPIC_API_KEY$", serving.out, re.M)
