"""Hosts that a provider alone can name."""

from __future__ import annotations

import pytest

from llamakey_addon.hosts import fits
from llamakey_addon.keys import Secret, SecretMisuse

INDEX = "*.svc.*.pinecone.io"


@pytest.mark.parametrize(
    ("glob", "host"),
    [
        (INDEX, "docs-example-4zo0ijk.svc.us-east1-aws.pinecone.io"),
        (INDEX, "a.svc.b.pinecone.io"),
        ("prod-*-data.ke.pinecone.io", "prod-1-data.ke.pinecone.io"),
        ("queue.fal.run", "queue.fal.run"),
    ],
)
def test_hosts_that_fit(glob: str, host: str) -> None:
    assert fits(glob, host)


@pytest.mark.parametrize(
    "host",
    [
        "a.svc.b.pinecone.io.evil.example",
        "evil.example#.svc.b.pinecone.io",
        "a.b.svc.c.pinecone.io",
        "a.svc..pinecone.io",
        "-a.svc.b.pinecone.io",
        "a-.svc.b.pinecone.io",
        "a.svc.b.pinecone.io.",
        "a.svc.b.pinecone.io:8443",
        "user@a.svc.b.pinecone.io",
        "a%2Esvc.b.pinecone.io",
        "A.SVC.B.PINECONE.IO",
        "a_b.svc.c.pinecone.io",
        f"{'a' * 64}.svc.b.pinecone.io",
        "a.svc.b.pineconexio",
        "svc.b.pinecone.io",
        "127.0.0.1",
        "",
        "a.svc.b.pinecone.io\n",
    ],
)
def test_hosts_that_do_not(host: str) -> None:
    assert not fits(INDEX, host)


def test_a_secret_bound_to_a_glob() -> None:
    secret = Secret("pcsk_real", hosts=frozenset({"api.pinecone.io", INDEX}), source="env:X")
    assert secret.reveal("a.svc.b.pinecone.io") == secret.reveal("api.pinecone.io") == b"pcsk_real"
    for host in ("a.svc.b.pinecone.io.evil.example", "pinecone.io", "b.pinecone.io"):
        with pytest.raises(SecretMisuse):
            secret.reveal(host)
