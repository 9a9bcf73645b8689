from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamakey_addon.forwarded import client_address

TRUSTED = tuple(ip_network(n) for n in ("10.0.0.0/8", "127.0.0.1", "fd00::/8"))


def xff(*values: str):
    return tuple((b"X-Forwarded-For", value.encode()) for value in values)


def fwd(*values: str):
    return tuple((b"forwarded", value.encode()) for value in values)


@pytest.mark.parametrize(
    ("peer", "headers", "address"),
    [
        # nobody is believed who is not trusted
        ("203.0.113.9", xff("1.2.3.4"), "203.0.113.9"),
        ("203.0.113.9", fwd("for=1.2.3.4"), "203.0.113.9"),
        ("10.0.0.1", (), "10.0.0.1"),
        ("10.0.0.1", xff("1.2.3.4"), "1.2.3.4"),
        ("::ffff:10.0.0.1", xff("1.2.3.4"), "1.2.3.4"),
        ("fd00::1%eth0", xff("1.2.3.4"), "1.2.3.4"),
        # what the client wrote itself stands left
        ("10.0.0.1", xff("6.6.6.6, 1.2.3.4"), "1.2.3.4"),
        ("10.0.0.1", xff("6.6.6.6, 1.2.3.4, 10.0.0.2"), "1.2.3.4"),
        ("10.0.0.1", xff("6.6.6.6", "1.2.3.4"), "1.2.3.4"),
        ("10.0.0.1", xff("10.0.0.9, 10.0.0.2"), "10.0.0.9"),
        ("10.0.0.1", xff("1.2.3.4:5678"), "1.2.3.4"),
        ("10.0.0.1", xff("[2001:db8::1]:443"), "2001:db8::1"),
        ("10.0.0.1", xff("2001:db8::1"), "2001:db8::1"),
        ("10.0.0.1", xff("::ffff:1.2.3.4"), "1.2.3.4"),
        # what is no address ends the search at who wrote it
        ("10.0.0.1", xff("1.2.3.4, unknown"), "10.0.0.1"),
        ("10.0.0.1", xff("1.2.3.4, unknown, 10.0.0.2"), "10.0.0.2"),
        ("10.0.0.1", xff("1.2.3.4\x1b[31m"), "10.0.0.1"),
        ("10.0.0.1", xff("1.2.3.4.5"), "10.0.0.1"),
        ("10.0.0.1", xff("1.2.3.4:x"), "10.0.0.1"),
        ("10.0.0.1", xff(""), "10.0.0.1"),
        ("10.0.0.1", xff(",,"), "10.0.0.1"),
        # RFC 7239
        ("10.0.0.1", fwd("for=1.2.3.4"), "1.2.3.4"),
        ("10.0.0.1", fwd("by=10.0.0.1;FOR=1.2.3.4;proto=https"), "1.2.3.4"),
        ("10.0.0.1", fwd('for="[2001:db8::1]:4711"'), "2001:db8::1"),
        ("10.0.0.1", fwd('for="1.2.3.4:80"'), "1.2.3.4"),
        ("10.0.0.1", fwd("for=6.6.6.6, for=1.2.3.4, for=10.0.0.2"), "1.2.3.4"),
        ("10.0.0.1", fwd("for=6.6.6.6", "for=1.2.3.4"), "1.2.3.4"),
        ("10.0.0.1", fwd("for=1.2.3.4, for=_hidden"), "10.0.0.1"),
        ("10.0.0.1", fwd("for=1.2.3.4, proto=https"), "10.0.0.1"),
        ("10.0.0.1", fwd('host="a,for=6.6.6.6";for=1.2.3.4'), "1.2.3.4"),
        ("10.0.0.1", fwd('host="a;for=6.6.6.6;b";for=1.2.3.4'), "1.2.3.4"),
        ("10.0.0.1", fwd("for=6.6.6.6;for=1.2.3.4"), "10.0.0.1"),
        ("10.0.0.1", fwd("xfor=6.6.6.6"), "10.0.0.1"),
        # two that disagree: one may be the client's own
        ("10.0.0.1", xff("1.2.3.4") + fwd("for=1.2.3.4"), "1.2.3.4"),
        ("10.0.0.1", xff("1.2.3.4") + fwd("for=6.6.6.6"), "10.0.0.1"),
        ("not an address", xff("1.2.3.4"), "not an address"),
    ],
)
def test_client_address(peer, headers, address):
    assert client_address(peer, headers, TRUSTED) == address


def test_without_trust_nothing_is_read():
    assert client_address("10.0.0.1", xff("1.2.3.4"), ()) == "10.0.0.1"


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_any_bytes_give_an_address(one, other):
    headers = ((b"X-Forwarded-For", one), (b"Forwarded", other))
    found = client_address("10.0.0.1", headers, TRUSTED)
    assert found.isprintable() and " " not in found and found
