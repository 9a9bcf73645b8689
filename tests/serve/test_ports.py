"""Is the port free, and who holds it."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from llamakey_addon.config import Listen
from llamakey_addon.serve import ports


@pytest.fixture
def taken():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_free_port_is_chosen_for_both_families():
    port = ports.claim(Listen("localhost", 0))
    assert port > 0
    assert ports.claim(Listen("localhost", port)) == port, "nothing is kept open"


def test_a_taken_port_names_its_holder_and_the_remedy(taken):
    with pytest.raises(ports.PortTaken) as caught:
        ports.claim(Listen("127.0.0.1", taken))
    text = str(caught.value)
    assert f"Port {taken} is taken" in text
    assert f"--listen 127.0.0.1:{taken + 1}" in text
    if sys.platform.startswith("linux"):
        assert f"(pid {os.getpid()})" in text


def test_taken_on_every_address_is_taken_on_one(taken):
    with socket.create_server(("0.0.0.0", 0)) as everywhere, pytest.raises(ports.PortTaken):
        ports.claim(Listen("127.0.0.1", everywhere.getsockname()[1]))


def test_an_address_of_another_machine_is_told():
    with pytest.raises(ports.PortTaken, match=r"no address '192\.0\.2\.1'"):
        ports.claim(Listen("192.0.2.1", 8000))


def test_a_name_that_does_not_resolve_is_told():
    with pytest.raises(ports.PortTaken, match=r"no address 'no-such-host\.invalid'"):
        ports.claim(Listen("no-such-host.invalid", 8000))


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may open any port")
def test_a_port_of_the_systems_is_told():
    with pytest.raises(ports.PortTaken, match="below 1024"):
        ports.claim(Listen("127.0.0.1", 80))


def test_nobody_holds_a_free_port():
    assert ports.holder(ports.claim(Listen("127.0.0.1", 0))) == ""


def test_what_answers_something_else_is_no_llamakey(taken):
    assert not ports.is_llamakey(Listen("127.0.0.1", ports.claim(Listen("127.0.0.1", 0))))
