"""The proxy's own authority: what is made, what clients make of it, what is renewed when."""

from __future__ import annotations

import asyncio
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from llamakey_addon import certificates
from llamakey_addon.certificates import OWN_NAMES, CertificateRefused, Place

NAMES = (*OWN_NAMES, "llm.example.com", "192.0.2.7")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return certificates.place_in(tmp_path)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def leaf(place: Place) -> x509.Certificate:
    return x509.load_pem_x509_certificates(place.cert.read_bytes())[0]


def test_what_is_made(place: Place) -> None:
    assert [place.serves, place.trusts] == [False, False]
    made = certificates.ensure(place, NAMES)
    assert made.new_ca
    assert made.new_cert
    assert set(made.names) == set(NAMES)
    assert [place.serves, place.trusts] == [True, True]
    assert mode(place.folder) == 0o700
    assert [mode(path) for path in (place.ca_key, place.key)] == [0o600, 0o600]
    assert sorted(path.name for path in place.folder.iterdir()) == [
        "bundle.pem",
        "ca-key.pem",
        "ca.pem",
        "cert.pem",
        "key.pem",
    ]
    assert b"PRIVATE" not in place.bundle.read_bytes() + place.ca.read_bytes()
    days = (made.expires - datetime.now(UTC)).days
    assert 390 < days < 398
    assert certificates.facts(place.cert).names == made.names


def test_nothing_changes_while_all_is_well(place: Place) -> None:
    certificates.ensure(place, NAMES)
    before = {path: path.read_bytes() for path in place.folder.iterdir()}
    again = certificates.ensure(place, NAMES)
    assert (again.new_ca, again.new_cert) == (False, False)
    assert {path: path.read_bytes() for path in place.folder.iterdir()} == before


@pytest.mark.parametrize("days", [360, 380, 500])
def test_the_certificate_is_renewed_before_its_end_by_the_same_authority(
    place: Place, days: int
) -> None:
    certificates.ensure(place, NAMES)
    ca, serial = place.ca.read_bytes(), leaf(place).serial_number
    later = datetime.now(UTC) + timedelta(days=days)
    made = certificates.renew(place, later)
    assert made is not None
    assert (made.new_ca, made.new_cert) == (False, days > 367)
    assert (leaf(place).serial_number != serial) is (days > 367)
    assert place.ca.read_bytes() == ca
    assert made.expires - later > timedelta(days=30)


def test_an_authority_near_its_end_is_not_replaced_behind_the_owner_s_back(place: Place) -> None:
    certificates.ensure(place, NAMES)
    later = datetime.now(UTC) + timedelta(days=3650 - 400)
    assert certificates.renew(place, later) is None
    made = certificates.ensure(place, NAMES, later)
    assert made.new_ca
    assert place.ca.read_bytes() in place.bundle.read_bytes()


def test_another_name_needs_another_authority(place: Place) -> None:
    certificates.ensure(place, NAMES)
    fewer = certificates.ensure(place, OWN_NAMES)
    assert (fewer.new_ca, fewer.new_cert) == (False, True)
    more = certificates.ensure(place, (*OWN_NAMES, "elsewhere.example.com"))
    assert (more.new_ca, more.new_cert) == (True, True)


def test_what_does_not_fit_together_is_made_anew(place: Place, tmp_path: Path) -> None:
    certificates.ensure(place, NAMES)
    other = certificates.place_in(tmp_path / "other")
    certificates.ensure(other, NAMES)
    place.key.write_bytes(other.key.read_bytes())
    assert certificates.ensure(place, NAMES).new_cert
    place.cert.write_bytes(other.cert.read_bytes())
    made = certificates.ensure(place, NAMES)
    assert (made.new_ca, made.new_cert) == (False, True)
    place.ca_key.unlink()
    assert certificates.ensure(place, NAMES).new_ca


@pytest.mark.parametrize("name", ["ca.pem", "ca-key.pem", "cert.pem", "key.pem"])
def test_a_file_that_is_no_certificate_is_said(place: Place, name: str) -> None:
    certificates.ensure(place, NAMES)
    (place.folder / name).write_text("not a certificate")
    with pytest.raises(CertificateRefused, match="lmk tls"):
        certificates.ensure(place, NAMES)


# ── what a client makes of it ───────────────────────────────────────────────────────────────────


async def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
    """A TLS handshake on loopback, by a client that believes it calls `name`."""

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    listening = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=server)
    port = listening.sockets[0].getsockname()[1]
    async with listening:
        _, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=client, server_hostname=name
        )
        writer.close()


def serving(place: Place) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(place.cert, place.key)
    return context


def strict(place: Place) -> ssl.SSLContext:
    """As strict as Python can be made, trusting the bundle alone."""
    context = ssl.create_default_context(cafile=str(place.bundle))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


@pytest.mark.parametrize("name", NAMES)
async def test_a_strict_client_trusts_it_for_its_names(place: Place, name: str) -> None:
    certificates.ensure(place, NAMES)
    await handshake(serving(place), strict(place), name)


async def test_a_client_that_was_told_nothing_does_not(place: Place) -> None:
    certificates.ensure(place, NAMES)
    with pytest.raises(ssl.SSLCertVerificationError):
        await handshake(serving(place), ssl.create_default_context(), "localhost")


@pytest.mark.parametrize("name", ["api.openai.com", "192.0.2.99"])
async def test_its_key_can_vouch_for_nobody_else(place: Place, tmp_path: Path, name: str) -> None:
    """A thief of the authority's key makes a certificate of another's name: nobody takes it."""
    certificates.ensure(place, NAMES)
    stolen = load_pem_private_key(place.ca_key.read_bytes(), None)
    assert isinstance(stolen, ec.EllipticCurvePrivateKey)
    authority = x509.load_pem_x509_certificate(place.ca.read_bytes())
    forged = certificates.place_in(tmp_path / "forged")
    forged.folder.mkdir(parents=True)
    good = leaf(place)
    builder = x509.CertificateBuilder(
        issuer_name=authority.subject,
        subject_name=good.subject,
        public_key=good.public_key(),
        serial_number=1,
        not_valid_before=good.not_valid_before_utc,
        not_valid_after=good.not_valid_after_utc,
    )
    for extension in good.extensions:
        value = extension.value
        if isinstance(value, x509.SubjectAlternativeName):
            value = x509.SubjectAlternativeName([certificates._general(name)])
        builder = builder.add_extension(value, extension.critical)
    cert = builder.sign(stolen, hashes.SHA256())
    forged.cert.write_bytes(certificates._cert_bytes(cert))
    forged.key.write_bytes(place.key.read_bytes())
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree"):
        await handshake(serving(forged), strict(place), name)


def test_the_bundle_is_the_system_s_roots_and_ours(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates.ensure(place, NAMES)
    assert place.ca.read_bytes() in place.bundle.read_bytes()
    loaded = ssl.create_default_context(cafile=str(place.bundle)).cert_store_stats()["x509_ca"]
    assert loaded > 50, "the system's roots, as SDKs would have them without us"
    # a company's own roots stay, and so they do once the client's file names our bundle itself
    corporate = tmp_path / "corporate.pem"
    other = certificates.place_in(tmp_path / "other")
    certificates.ensure(other, NAMES)
    corporate.write_bytes(other.ca.read_bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(corporate))
    certificates.write_bundle(place)
    assert corporate.read_bytes() in place.bundle.read_bytes()
    monkeypatch.setenv("SSL_CERT_FILE", str(place.bundle))
    certificates.write_bundle(place)
    assert place.bundle.read_bytes().count(place.ca.read_bytes()) == 1


def test_another_machine_s_authority_is_trusted(place: Place, tmp_path: Path) -> None:
    certificates.ensure(place, NAMES)
    here = certificates.place_in(tmp_path / "client")
    facts = certificates.trust(here, place.ca)
    assert set(facts.names) == set(NAMES)
    assert [here.serves, here.trusts] == [False, True]
    assert place.ca.read_bytes() in here.bundle.read_bytes()
    assert certificates.trust(here, place.ca) == facts


def test_what_is_no_authority_is_not_trusted(place: Place, tmp_path: Path) -> None:
    certificates.ensure(place, NAMES)
    here = certificates.place_in(tmp_path / "client")
    with_key = tmp_path / "both.pem"
    with_key.write_bytes(place.ca.read_bytes() + place.ca_key.read_bytes())
    for wrong in (place.cert, place.key, tmp_path / "missing.pem", with_key):
        with pytest.raises(CertificateRefused):
            certificates.trust(here, wrong)
    assert not here.trusts
    with pytest.raises(CertificateRefused, match="LLAMAKEY_HOME"):
        certificates.trust(place, place.ca)
