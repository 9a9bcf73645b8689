"""`lmk tls`: the proxy's own certificate, and trust in it on this machine and another."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from llamakey_addon import certificates
from tests.cli.test_env import in_bash

TRUSTED = {
    "SSL_CERT_FILE": "bundle.pem",
    "REQUESTS_CA_BUNDLE": "bundle.pem",
    "CURL_CA_BUNDLE": "bundle.pem",
    "AWS_CA_BUNDLE": "bundle.pem",
    "NODE_EXTRA_CA_CERTS": "ca.pem",
    "DENO_CERT": "ca.pem",
}


@pytest.fixture
def made(lmk) -> Path:
    done = lmk("tls")
    assert (done.code, done.err) == (0, "")
    return lmk.home / "tls"


def test_it_says_what_it_made_and_what_to_do(lmk):
    first = lmk("tls")
    folder = lmk.home / "tls"
    assert "New certificate for localhost, 127.0.0.1, ::1, until 20" in first.out
    assert str(folder / "cert.pem") in first.out
    assert str(folder / "ca.pem") in first.out
    assert "lmk serve's port now speaks TLS too" in first.out
    assert "other machines" not in first.out
    assert stat.S_IMODE((folder / "key.pem").stat().st_mode) == 0o600
    again = lmk("tls")
    assert "New" not in again.out
    assert "port" not in again.out
    assert "Certificate for localhost" in again.out


def test_it_is_made_for_the_names_by_which_clients_come(lmk):
    (lmk.folder / "config.yaml").write_text(
        "listen: 192.0.2.7:8000\nallow_plain: true\npublic_url: https://llm.example.com:8000\n"
    )
    done = lmk("tls")
    assert "for localhost, 127.0.0.1, ::1, llm.example.com, 192.0.2.7, until" in done.out
    assert "lmk tls --trust ca.pem" in done.out


def test_the_client_s_environment_names_it(lmk, made):
    environ = in_bash(lmk("env", "--for", "openai").out)
    assert {name: environ[name] for name in TRUSTED} == {
        name: str(made / file) for name, file in TRUSTED.items()
    }
    # the address stays as it was: what does not insist on TLS needs to trust nothing
    assert environ["OPENAI_BASE_URL"] == "http://localhost:8000/openai/v1"
    assert "SSL_CERT_FILE" in lmk("keys", "new", "bob", "--env").out


def test_without_it_nothing_is_said_of_trust(lmk):
    assert not TRUSTED.keys() & in_bash(lmk("env", "--for", "openai").out).keys()


def test_a_teammate_s_file_names_no_path_of_this_machine(lmk):
    (lmk.folder / "config.yaml").write_text(
        "listen: 0.0.0.0:8000\nallow_plain: true\npublic_url: https://llm.example.com:8000\n"
    )
    lmk("tls")
    done = lmk("keys", "new", "bob", "--env")
    assert str(lmk.home) not in done.out
    assert f"bob needs {lmk.home / 'tls' / 'ca.pem'} as well: lmk tls --trust ca.pem" in done.err


def test_a_client_s_machine_trusts_another_s(lmk, made, tmp_path):
    here = {"LLAMAKEY_HOME": str(tmp_path / "client")}
    done = lmk("tls", "--trust", str(made / "ca.pem"), env=here)
    assert (done.code, done.err) == (0, "")
    assert "now trust the proxy at localhost, 127.0.0.1, ::1, until" in done.out
    # the file that the owner sent names nothing of it
    lmk.env_file.write_text(lmk("keys", "new", "bob", "--env").out.replace(str(made), "/gone"))
    environ = in_bash(lmk("env", env=here).out)
    assert environ["SSL_CERT_FILE"] == str(tmp_path / "client" / "tls" / "bundle.pem")


def test_what_is_no_authority_is_refused(lmk, made, tmp_path):
    here = {"LLAMAKEY_HOME": str(tmp_path / "client")}
    done = lmk("tls", "--trust", str(made / "cert.pem"), env=here)
    assert (done.code, done.out) == (1, "")
    assert "is no authority's certificate" in done.err


def test_the_owner_s_own_certificate_is_left_alone(lmk, made):
    (lmk.folder / "config.yaml").write_text(
        f"tls:\n  cert: {made / 'cert.pem'}\n  key: {made / 'key.pem'}\n"
    )
    done = lmk("tls")
    assert done.code == 0
    assert "names a certificate of yours" in done.out
    assert "There is nothing to make" in done.out


def test_a_pair_that_does_not_fit_stops_a_start(lmk, made):
    (made / "key.pem").write_text("no key")
    done = lmk("check")
    assert done.code == 1
    assert "run `lmk tls`" in done.out


def test_check_looks_at_the_certificate(lmk, made):
    assert "ok: certificate for localhost, 127.0.0.1, ::1, 396 days left" in lmk("check").out
    (lmk.folder / "config.yaml").write_text("public_url: https://llm.example.com\n")
    assert "is not for llm.example.com" in lmk("check").out
    place = certificates.place_in(lmk.home)
    for days, says in ((390, "ends in 6 days: run lmk tls"), (400, "has ended: run lmk tls")):
        for path in (place.ca, place.cert):
            path.unlink()
        certificates.ensure(place, certificates.OWN_NAMES, datetime.now(UTC) - timedelta(days=days))
        assert says in lmk("check").out
