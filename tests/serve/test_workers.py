"""Several workers on one port: what they share, and that nothing is lost when they come and go."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import functools
import http.client
import json
import os
import pickle
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from llamakey_addon.config import Settings
from llamakey_addon.errors import ConfigError
from llamakey_addon.keys import SecretMisuse, parse
from llamakey_addon.serve import orders
from llamakey_addon.serve.crew import shared_out
from llamakey_addon.serve.turns import Turns
from tests import steady
from tests.cli.command import REAL_KEY
from tests.conftest import Start
from tests.crowd import crowd, post
from tests.fakes import World
from tests.front import until
from tests.harness import Proxy, _ticks
from tests.rows import query, wait_for_settled
from tests.starts import ROOT

CHAT = {"model": "gpt-5-mini", "max_tokens": 20, "messages": [{"role": "user", "content": "hi"}]}
CAPS = {
    "limits": [{"requests": 10**6, "per": "day"}, {"concurrent": 10**4}],
    "budgets": [{"spend": 1000, "per": "month"}],
}
CONFIG: dict[str, Any] = {
    "workers": 2,
    "prices": [{"provider": "*", "model": "*", "input_mtok": 1, "output_mtok": 2}],
    "users": {"alice": CAPS},
    "limits": {"drain_timeout_s": 10},
}


def children(pid: int) -> set[int]:
    """Processes whose parent this is."""
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def alive(pids: set[int]) -> set[int]:
    """Those of them that have not ended; one that nobody has reaped has."""
    found = set()
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            continue
        if state != "Z":
            found.add(pid)
    return found


def ready(proxy: Proxy) -> Proxy:
    """Once all of its workers serve; until then the first of them does."""
    proxy.wait_for_output("with 2 workers (Ctrl-C stops)")
    return proxy


def assert_settled(proxy: Proxy) -> None:
    wait_for_settled(proxy)
    assert query(proxy, "SELECT coalesce(sum(reserved), 0) FROM counter") == [(0,)]


def chat(proxy: Proxy, *headers: str, **more: Any) -> bytes:
    body = json.dumps({**CHAT, **more}).encode()
    return post("/openai/v1/chat/completions", proxy.local_key, body, *headers)


class Stream:
    """A streaming answer that waits at a gate of the fakes."""

    def __init__(self, proxy: Proxy, world: World, name: str) -> None:
        self.gate = world.gate(name)
        self.gate.release(1)
        self._connection = http.client.HTTPConnection("localhost", proxy.port, timeout=90)
        headers = {"Authorization": f"Bearer {proxy.local_key}", "X-Fake-Gate": name}
        headers["Content-Type"] = "application/json"
        body = json.dumps({**CHAT, "stream": True})
        self._connection.request("POST", "/openai/v1/chat/completions", body, headers)
        self._answer = self._connection.getresponse()
        assert self._answer.status == 200

    def end(self) -> bytes:
        self.gate.open()
        try:
            return self._answer.read()
        finally:
            self._connection.close()


def restart(proxy: Proxy) -> None:
    """A rolling one; returns when the new workers serve."""
    before = proxy.output().count("new workers serve")
    proxy.process.send_signal(signal.SIGUSR2)
    for _ in _ticks(20):
        if proxy.output().count("new workers serve") > before:
            return
    raise TimeoutError(proxy.output())


# ── shared ──────────────────────────────────────────────────────────────────────────────────────


def test_they_share_what_counts_and_take_turns(shared_proxy: Start, world: World) -> None:
    running = shared_proxy(config=CONFIG)
    ready(running)
    assert len(children(running.process.pid)) == 2
    for _ in range(5):
        told = crowd([running.url], chat(running), 60)
        assert {each.status for each in told} == {200}
        assert_settled(running)
        if len(query(running, "SELECT DISTINCT process FROM ledger")) == 2:
            break
    else:
        raise AssertionError("one of them has taken all")


def test_a_signature_counts_once_in_all_of_them(shared_proxy: Start) -> None:
    running = shared_proxy(config=CONFIG)
    parsed = parse(running.local_key)
    assert parsed is not None
    path = "/bedrock/model/anthropic.claude-fake-20260101-v1%3A0/converse"
    body = json.dumps({"messages": [{"role": "user", "content": [{"text": "hi"}]}]}).encode()
    fields = {"Content-Type": "application/json", "amz-sdk-invocation-id": "1"}
    draft = AWSRequest("POST", f"{running.url}{path}", headers=fields, data=body)
    credentials = Credentials(f"LMK{parsed.id}", running.local_key, running.local_key)
    SigV4Auth(credentials, "bedrock", "us-east-1").add_auth(draft)
    lines = [f"POST {path} HTTP/1.1", f"Host: localhost:{running.port}"]
    lines += [f"{name}: {value}" for name, value in draft.headers.items()]
    lines += [f"Content-Length: {len(body)}", "Connection: close", "", ""]
    told = crowd([running.url], "\r\n".join(lines).encode() + body, 20)
    assert collections.Counter(each.status for each in told) == {200: 1, 401: 19}, told


def test_many_streams_and_a_flood_of_bad_requests_at_once(
    shared_proxy: Start, world: World
) -> None:
    """Whoever is good is served, and whoever is not is told so; nothing is left of either."""
    running = ready(shared_proxy(config=CONFIG))
    path = "/openai/v1/chat/completions"
    bad = {
        401: post(path, "sk-lmk-aaaaaaaaaa-" + "0" * 49, b"{}"),
        404: post("/nowhere/at/all", running.local_key, b"{}"),
        400: b"GET /openai/../etc HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        431: post(path, running.local_key, b"{}", "X-Long: " + "x" * 70_000),
    }
    told: dict[int, list[int]] = {}

    def flood(status: int) -> None:
        told[status] = [each.status for each in crowd([running.url], bad[status], 60)]

    floods = [threading.Thread(target=flood, args=(status,)) for status in bad]
    for thread in floods:
        thread.start()
    streams = crowd([running.url], chat(running, stream=True), 100)
    for thread in floods:
        thread.join()
    assert all(each.whole and each.body.endswith(b"0\r\n\r\n") for each in streams)
    assert [each.status for each in streams] == [200] * 100
    for status, found in told.items():
        # of those whose head is cut off while it is sent, a reset may overtake the answer
        assert set(found) <= {status, 0} and found.count(status) > 30, (status, found)
    assert_settled(running)


# ── ends ────────────────────────────────────────────────────────────────────────────────────────


def test_a_worker_that_is_killed_is_replaced(proxy: Start, world: World) -> None:
    running = ready(proxy(config=CONFIG))
    before = children(running.process.pid)
    stream = Stream(running, world, "kept")
    [(name,)] = query(running, "SELECT process FROM ledger WHERE open = 1")
    # which of the two has it: the other one is killed, in the middle of a crowd's requests
    holder = next(
        pid
        for pid in before
        if any(os.readlink(f).endswith(f"-proc-{name}") for f in descriptors(pid))
    )
    [victim] = before - {holder}
    told = crowd(
        [running.url], chat(running), 200, after=60, then=lambda: os.kill(victim, signal.SIGKILL)
    )
    statuses = collections.Counter(each.status for each in told)
    assert statuses.keys() <= {200, 0} and statuses[200] > 60, "the other one serves on"
    running.wait_for_output(f"worker {victim} was killed by SIGKILL: another takes its place")
    for _ in _ticks(20):
        if len(alive(children(running.process.pid))) == 2:
            break
    assert victim not in children(running.process.pid) and holder in children(running.process.pid)
    assert b"[DONE]" in stream.end()
    assert_settled(running)  # what the dead one had, too
    ids = {id for (id,) in query(running, "SELECT id FROM ledger")}
    assert {each.id for each in told if each.status == 200} <= ids
    # SIGTERM now: what runs ends, nothing new is taken
    stream = Stream(running, world, "drained")
    workers = children(running.process.pid)
    running.process.send_signal(signal.SIGTERM)
    running.wait_for_output("stopping: waiting up to 10 s for running requests")
    assert not running.healthy()
    assert running.process.poll() is None
    assert b"[DONE]" in stream.end()
    assert running.process.wait(60) == 0
    assert not alive(workers)
    assert_settled(running)
    assert running.output().count("stopped") == 1


def descriptors(pid: int) -> list[str]:
    return [f"/proc/{pid}/fd/{name}" for name in os.listdir(f"/proc/{pid}/fd")]


def test_without_its_parent_a_worker_ends_what_it_has(proxy: Start, world: World) -> None:
    running = ready(proxy(config=CONFIG))
    workers = children(running.process.pid)
    stream = Stream(running, world, "orphan")
    running.process.kill()
    running.process.wait()
    running.wait_for_output("the parent process has ended: stopping")
    assert b"[DONE]" in stream.end()
    for _ in _ticks(20):
        if not alive(workers):
            break
    assert not alive(workers)
    assert_settled(running)
    assert query(running, "SELECT end FROM ledger") == [("complete",)]


def test_workers_that_do_not_start_end_their_parent(lmk: Any) -> None:
    (lmk.folder / "mine.py").write_text("import nowhere\n")
    done = lmk("serve", "--listen", "localhost:0", "--workers", "2", "-s", "mine.py")
    assert done.code == 1
    assert "error: No worker starts. The proxy did not start." in done.err
    assert "No module named 'nowhere'" in done.err
    assert "a worker does not start, again in " in done.out
    assert "Serving" not in done.out and "Traceback" not in done.err
    done = lmk("serve", "--web", "--workers", "2")
    assert done.code == 2
    assert "--web shows what one process serves" in done.err


# ── reloads and restarts ────────────────────────────────────────────────────────────────────────


def test_a_reload_is_taken_by_all_or_by_none(lmk: Any) -> None:
    config = lmk.folder / "config.yaml"
    asked = lmk.folder / "asked.txt"
    key = lmk.folder / "key.sh"
    key.write_text(f"#!/bin/sh\necho >> {asked}\necho {REAL_KEY}\n")
    key.chmod(0o755)
    settings = f"workers: 3\nproviders: {{openai: {{key: 'cmd:{key}'}}}}\nusers: {{bob: {{}}}}\n"
    config.write_text(settings)

    def told(serving: Any, key: str) -> set[int]:
        """By enough connections that every worker had one."""
        return {serving.get("/anthropic/v1/models", key)[0] for _ in range(12)}

    with lmk.serving() as serving:
        reads = asked.read_text().count("\n")
        bob = lmk("keys", "new", "bob").out.strip()
        assert told(serving, bob) == {503}, "allowed; there is no real key"
        config.write_text("users: {bob: {allow: []}\n")
        serving.process.send_signal(signal.SIGHUP)
        serving.wait_for("goes on with the settings it has")
        assert told(serving, bob) == {503}
        config.write_text(settings.replace("bob: {}", "bob: {allow: []}"))
        serving.process.send_signal(signal.SIGHUP)
        serving.wait_for("settings taken")
        assert told(serving, bob) == {403}
        more = asked.read_text().count("\n") - reads
        assert 1 <= more <= 2, "once for all of them; the change itself may have been seen, too"
        lmk("keys", "revoke", "bob")
        assert told(serving, bob) == {401}
        assert serving.stop() == 0
    assert REAL_KEY not in serving.out + serving.err


def has_come_to(tally: steady.Tally, whole: int) -> bool:
    return tally.whole >= whole or bool(tally.errors)


def test_a_rolling_restart_loses_nothing(proxy: Start, world: World, tmp_path: Path) -> None:
    """Clients keep their connections, and try nothing twice."""
    key = tmp_path / "key.txt"
    key.write_text("sk-ant-of-yesterday")
    # asked for when settings are loaded, and at no other time
    providers = {"anthropic": {"key": f"cmd:cat {key}"}}
    running = ready(proxy(config={**CONFIG, "providers": providers}))
    first = children(running.process.pid)
    idle = http.client.HTTPConnection("localhost", running.port, timeout=90)
    headers = {"Authorization": f"Bearer {running.local_key}"}
    idle.request("GET", "/openai/v1/models", headers=headers)
    assert idle.getresponse().read()
    socket = idle.sock
    stream = Stream(running, world, "over-restarts")
    restarts, clients = 4, 12
    tally = steady.Tally()
    done: list[int] = []

    async def restarting() -> None:
        for number in range(restarts):
            if number == 1:  # `idle` is with a worker that has been replaced by then
                key.write_text(world.key("anthropic"))
            enough = tally.whole + 3 * clients
            await until(functools.partial(has_come_to, tally, enough))
            await asyncio.to_thread(restart, running)
            done.append(number)

    async def both() -> None:
        asked = steady.run(
            running.url,
            running.local_key,
            CHAT,
            clients=clients,
            requests=0,
            tally=tally,
            enough=lambda: len(done) == restarts or bool(tally.errors),
        )
        await asyncio.gather(asked, restarting())

    asyncio.run(both())
    assert tally.errors == []
    assert tally.statuses.keys() == {200} and tally.whole == len(tally.ids) > 100
    assert tally.goodbyes >= restarts
    # what began in the first life goes on there
    assert first & alive(children(running.process.pid))
    idle.request("GET", "/anthropic/v1/models", headers=headers)
    assert idle.sock is socket, "on the same connection"
    answer = idle.getresponse()
    assert (answer.status, answer.getheader("connection")) == (200, "close"), "by the key of now"
    assert answer.read()
    idle.close()
    assert b"[DONE]" in stream.end()
    for _ in _ticks(20):
        if not first & alive(children(running.process.pid)):
            break
    assert not first & alive(children(running.process.pid))
    assert_settled(running)
    ids = [id for (id,) in query(running, "SELECT id FROM ledger")]
    assert len(ids) == len(set(ids)) and set(tally.ids) <= set(ids)
    assert query(running, "SELECT DISTINCT end FROM ledger") == [("complete",)]


def test_an_upgrade_is_taken_by_the_same_process(
    proxy: Start, world: World, tmp_path: Path
) -> None:
    code = tmp_path / "code"
    shutil.copytree(ROOT / "llamakey_addon", code / "llamakey_addon")
    (code / "tests").symlink_to(ROOT / "tests")
    running = ready(proxy(config=CONFIG, env={"PYTHONPATH": str(code)}))
    old = children(running.process.pid)
    stream = Stream(running, world, "upgrade")
    program = code / "llamakey_addon" / "me.py"
    good = program.read_text()
    program.write_text("what is this?\n")
    running.process.send_signal(signal.SIGUSR2)
    running.wait_for_output("restart: the new code does not start, nothing changes.")
    running.wait_for_output("SyntaxError")
    assert children(running.process.pid) == old and running.healthy()
    program.write_text(good.replace("Answer(200", "Answer(203"))
    assert "Answer(203" in program.read_text()
    restart(running)
    assert "the program's files have changed, and are read anew" in running.output()
    connection = http.client.HTTPConnection("localhost", running.port, timeout=45)
    headers = {"Authorization": f"Bearer {running.local_key}"}
    connection.request("GET", "/_llamakey/me", headers=headers)
    assert connection.getresponse().status == 203
    connection.close()
    assert b"[DONE]" in stream.end()
    assert running.output().count("Serving ") == 1
    assert running.stop() == 0
    assert not alive(old)


# ── parts ───────────────────────────────────────────────────────────────────────────────────────


def test_settings_reach_a_worker_with_their_keys(tmp_path: Path) -> None:
    """Through memory alone: otherwise a key can't be written out."""
    path = tmp_path / "config.yaml"
    path.write_text("users: {alice: {allow: [{providers: [openai], models: [gpt-*]}]}}\n")
    environ = {
        "LLAMAKEY_HOME": str(tmp_path),
        "OPENAI_API_KEY": REAL_KEY,
        "AWS_REGION": "us-east-1",
    }
    environ |= {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "s" * 40}
    settings = Settings.load(path, environ)
    found = orders.unpack(orders.pack(settings))
    provider = found.providers["openai"]
    assert provider.secret is not None and provider.upstream is not None
    assert provider.secret.reveal(provider.upstream.host) == REAL_KEY.encode()
    assert found.people == settings.people and found.limits == settings.limits
    assert found.providers["bedrock"].recipe is not None
    with pytest.raises(SecretMisuse):
        pickle.dumps(provider.secret)


def test_settings_of_other_code_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pickled dataclass is its values in their order, which another version may have changed."""
    packed = orders.pack(Settings.load(None, {"LLAMAKEY_HOME": str(tmp_path)}))

    @dataclasses.dataclass(frozen=True, slots=True)
    class Limits:
        other: int

    monkeypatch.setattr("llamakey_addon.config.settings.Limits", Limits)
    with pytest.raises(ConfigError, match="Limits has other fields in the code that made them"):
        orders.unpack(packed)


def test_bounds_on_connections_are_shared_out(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    limits = {"connections": 100, "connections_per_address": 10, "pool_idle": 0, "pool_warm": 1}
    path.write_text(json.dumps({"workers": 3, "limits": {**limits, "upstream_connections": 7}}))
    settings = Settings.load(path, {"LLAMAKEY_HOME": str(tmp_path)})
    assert settings.workers == 3
    shared = shared_out(settings, 3).limits
    assert (shared.connections, shared.connections_per_address) == (34, 4)
    assert (shared.pool_idle, shared.pool_warm, shared.upstream_connections) == (0, 1, 3)
    assert shared_out(settings, 1) == settings


def test_words_come_whole_and_in_their_order() -> None:
    ours, theirs = orders.pair()
    large = os.urandom(3_000_000)
    got: list[tuple[int, bytes]] = []
    took: list[bool] = []
    saying = threading.Thread(target=lambda: took.append(ours.say(orders.Word.SETTINGS, large)))
    saying.start()
    end_s = time.monotonic() + 45
    while not got and time.monotonic() < end_s:
        got += theirs.heard()
    saying.join()
    assert took == [True] and got == [(orders.Word.SETTINGS, large)]
    ours.say(orders.Word.RETIRE)
    ours.say(orders.Word.STOP)
    ours.close()
    assert theirs.heard() == [(orders.Word.RETIRE, b""), (orders.Word.STOP, b"")]
    assert theirs.closed
    told = theirs.say(orders.Word.READY)
    assert told, "nobody is there to hear it, and that is told elsewhere"
    theirs.close()


def test_whoever_has_more_leaves_the_next_one_to_others() -> None:
    turns = Turns(3)
    first, second = turns.seat(0), turns.seat(1)
    first.tell(1)
    assert not first.is_ahead(), "nobody else is there"
    second.tell(0)
    assert first.is_ahead() and not second.is_ahead()
    second.tell(1)
    assert not first.is_ahead() and not second.is_ahead()
    second.leave()
    first.tell(100)
    assert not first.is_ahead()
