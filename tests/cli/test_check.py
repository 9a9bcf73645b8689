"""`lmk check`: what a start would stumble over, in one report."""

from __future__ import annotations

import json
import socket

import pytest

from llamakey_addon import certificates
from llamakey_addon.cli import unpriced
from llamakey_addon.config import Settings
from tests.cli.command import ANSI, REAL_KEY
from tests.harness import free_port


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def test_all_is_well(lmk, port):
    done = lmk("check", "--listen", f"localhost:{port}", env={"OPENAI_API_KEY": REAL_KEY})
    assert done.code == 0
    assert done.out.splitlines()[-1].startswith("no faults, ")
    assert f"ok: localhost:{port} is free" in done.out
    assert "ok: 1 provider" in done.out
    assert REAL_KEY not in done.out + done.err
    assert not ANSI.search(done.out)


def test_every_fault_stands_in_one_report_with_its_line(lmk):
    (lmk.folder / "config.yaml").write_text(
        "listn: localhost:1\n"
        "limits:\n"
        "  head_bytes: many\n"
        "logging: {fil: x}\n"
    )  # fmt: skip
    done = lmk("check")
    assert done.code == 1
    for line, word in ((1, "`listen`"), (3, "head_bytes"), (4, "`file`")):
        assert any(
            f"config.yaml:{line}:" in text and word in text for text in done.out.splitlines()
        )
    assert done.out.splitlines()[-1] == "3 faults, no warnings"


def test_a_secret_in_clear_is_warned_of_and_not_shown(lmk, port):
    (lmk.folder / "config.yaml").write_text(f"providers:\n  openai:\n    key: {REAL_KEY}\n")
    done = lmk("check", "--listen", f"localhost:{port}")
    assert done.code == 0
    assert "warning: config.yaml:3:" in done.out
    assert "in clear" in done.out
    assert REAL_KEY not in done.out + done.err


def test_a_local_key_in_the_owners_place_is_explained(lmk, port):
    key = lmk("keys", "new", "bob").out.strip()
    done = lmk("check", "--listen", f"localhost:{port}", env={"OPENAI_API_KEY": key})
    assert "did you source llamakey_local.env" in done.out
    assert key not in done.out


def test_a_taken_port_is_a_fault_and_names_who_holds_it(lmk):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = lmk("check", "--listen", f"127.0.0.1:{port}")
    assert done.code == 1
    assert f"error: Port {port} is taken: it is in use by " in done.out
    assert "(pid " in done.out
    assert f"--listen 127.0.0.1:{port + 1}" in done.out


def test_a_store_of_no_use_is_a_fault(lmk, port):
    lmk.home.mkdir()
    (lmk.home / "llamakey.db").write_text(
        "this is no database, and longer than its header is: " * 9
    )
    done = lmk("check", "--listen", f"localhost:{port}")
    assert done.code == 1
    assert "llamakey.db" in done.out
    assert "Traceback" not in done.err


def test_what_stands_in_the_env_file_is_looked_at(lmk, port):
    listen = f"localhost:{port}"
    key = lmk("keys", "new", "bob").out.strip()
    lmk.env_file.write_text(f"export LLAMAKEY_API_KEY={key}\n")
    lmk.env_file.chmod(0o644)
    done = lmk("check", "--listen", listen)
    assert "holds the valid key 'bob' of bob" in done.out
    assert "chmod 600 llamakey_local.env" in done.out
    lmk("keys", "revoke", "bob")
    assert "is revoked" in lmk("check", "--listen", listen).out
    (lmk.home / "llamakey.db").unlink()
    assert "is not of this proxy" in lmk("check", "--listen", listen).out


def test_users_without_a_whitelist_are_named_when_others_have_one(lmk, port):
    (lmk.folder / "config.yaml").write_text("users: {alice: {allow: [{providers: [openai]}]}}\n")
    lmk("keys", "new", "bob")
    done = lmk("check", "--listen", f"localhost:{port}")
    assert "no whitelist holds for bob" in done.out


def test_a_running_proxy_is_no_fault(lmk):
    with lmk.serving() as serving:
        done = lmk("check", "--listen", f"localhost:{serving.port}")
        assert done.code == 0
        assert f"a LlamaKey serves on localhost:{serving.port}" in done.out
        serving.stop()


def test_what_credentials_are_made_of_is_shown_and_the_metadata_servers_key_looked_for(lmk, port):
    (lmk.folder / "account.json").write_text('{"type": "service_account", "project_id": "p"}')
    (lmk.folder / "account.json").chmod(0o600)
    (lmk.folder / "config.yaml").write_text(
        "providers:\n  vertex: {login: {credentials: file:account.json}, metadata: robot}\n"
    )
    done = lmk("check", "--listen", f"localhost:{port}")
    assert "made from file:account.json" in done.out
    assert "there is no valid local key named robot" in done.out
    lmk("keys", "new", "robot")
    assert "robot" not in lmk("check", "--listen", f"localhost:{port}").out
    [vertex] = [row for row in json.loads(lmk("providers", "--json").out) if row["id"] == "vertex"]
    assert (vertex["ready"], vertex["source"]) == (True, "file:account.json")


def test_the_second_doors_port_and_authority(lmk, port):
    taken = free_port()
    door = f"door: {{open: true, listen: 'localhost:{taken}'}}\n"
    (lmk.folder / "config.yaml").write_text(door)
    done = lmk.here("check", "--listen", f"localhost:{port}")
    assert (done.code, f"second door: localhost:{taken} is free" in done.out) == (0, True)
    place = certificates.door_in(lmk.home)
    certificates.ensure_door(place, certificates.place_in(lmk.home), ["api.openai.com"])
    with socket.create_server(("127.0.0.1", taken)):
        done = lmk.here("check", "--listen", f"localhost:{port}")
    assert done.code == 1
    assert f"second door: Port {taken} is taken" in done.out
    assert "in config.yaml, door.listen: localhost:" in done.out
    assert "its authority does not vouch for api.ai21.com, api.anthropic.com" in done.out


BUDGET = "budgets: [{spend: 9, per: day}]"
ALL = "allow: [{paths: ['**']}]"


@pytest.mark.parametrize(
    ("people", "setting"),
    [
        (f"users: {{alice: {{{BUDGET}}}}}", "users.alice.budgets[0]"),
        (f"teams: {{all: {{{BUDGET}}}}}", "teams.all.budgets[0]"),
        (f"everybody: {{{BUDGET}}}", "everybody.budgets[0]"),
        (f"everybody: {{{BUDGET}}}\nusers: {{'*': {{{ALL}}}}}", "everybody.budgets[0]"),
        ("everybody: {budgets: [{spend: 9, per: day, providers: [fal]}]}", "everybody.budgets[0]"),
        ("everybody: {budgets: [{spend: 9, per: day, providers: [openai]}]}", ""),
        ("everybody: {budgets: [{spend: 9, per: day, hard: false}]}", ""),
        ("everybody: {limits: [{requests: 9, per: day}]}", ""),
        # who has a budget may not use it
        (f"users: {{alice: {{{BUDGET}, allow: [{{providers: [openai]}}]}}}}", ""),
        (f"everybody: {{{BUDGET}}}\nusers: {{'*': {{allow: [{{providers: [openai]}}]}}}}", ""),
    ],
)
def test_a_provider_that_a_budget_refuses_for_its_prices(tmp_path, people, setting):
    def told(prices: str = "") -> str:
        (tmp_path / "config.yaml").write_text(f"{people}\nprices: [{prices}]\n")
        environ = {"HOME": str(tmp_path), "FAL_KEY": "id:secret-of-fal", "OPENAI_API_KEY": REAL_KEY}
        return unpriced.told(Settings.load(tmp_path / "config.yaml", environ), ())

    text = told()
    assert text.startswith("fal: ") == bool(setting)
    assert f"({setting})" in text if setting else text == ""
    # its remedy is one; a price of something else is none
    assert told('{provider: fal, model: "*", request: 0.05}') == ""
    assert told('{provider: "*", free: true}') == ""
    assert told('{provider: "*", model: other, free: true}') == text


def test_a_keys_own_budget_is_looked_at_too(lmk, port):
    env = {"OPENAI_API_KEY": REAL_KEY, "FAL_KEY": "id:secret-of-fal", "PINECONE_API_KEY": "pcsk_x1"}
    lmk("keys", "new", "bob", "--budget", "5/month", env=env)
    done = lmk("check", "--listen", f"localhost:{port}", env=env)
    assert "warning: fal, pinecone: no table has prices of these" in done.out
    lmk("keys", "revoke", "bob", env=env)
    assert "no table" not in lmk("check", "--listen", f"localhost:{port}", env=env).out
