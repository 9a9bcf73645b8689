"""A certificate authority of this proxy's own, for clients that insist on TLS.

`<data folder>/tls/` holds what `lmk tls` makes:

    ca.pem       the authority's certificate: what clients trust
    ca-key.pem   its key, 0600
    cert.pem     the proxy's certificate with its chain
    key.pem      its key, 0600
    bundle.pem   the system's roots and ca.pem: for clients that take one file for all

The authority can vouch for the proxy's own names and no others (name constraints, critical), so
that whoever steals its key can pretend to be this proxy alone. On a client's machine the folder may
hold ca.pem and bundle.pem alone. Every file is written beside and renamed.

The second door has an authority apart, in `<data folder>/door/`, for the providers' hosts and
no others: who needs TLS alone need not trust anybody who could pretend to be a provider.

    ca.pem, ca-key.pem    as above
    ours.pem              both authorities: for clients that add to the roots they have
    bundle.pem            the system's roots and ours.pem
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import ssl
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from llamakey_addon.errors import LlamaKeyError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

OWN_NAMES: Final = ("localhost", "127.0.0.1", "::1")
"""By which programs on this machine reach the proxy."""

_CA_DAYS: Final = 3650
_DAYS: Final = 397
"""Of a server's certificate: what the strictest clients take."""
_RENEW_DAYS: Final = 30
_LEAF_DAYS: Final = 30
"""Of a certificate of the second door's, which is made anew for each process."""
_CA_RENEW_DAYS: Final = _DAYS + _RENEW_DAYS
"""The authority outlives what it vouches for."""
_SYSTEM_ROOTS: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


class CertificateRefused(LlamaKeyError):
    """A certificate can't be made or read; the message names the remedy."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the files are, whether they are there or not."""

    folder: Path

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def ca_key(self) -> Path:
        return self.folder / "ca-key.pem"

    @property
    def cert(self) -> Path:
        return self.folder / "cert.pem"

    @property
    def key(self) -> Path:
        return self.folder / "key.pem"

    @property
    def bundle(self) -> Path:
        return self.folder / "bundle.pem"

    @property
    def ours(self) -> Path:
        return self.folder / "ours.pem"

    @property
    def serves(self) -> bool:
        """Whether a proxy can speak TLS with what is here."""
        return self.cert.is_file() and self.key.is_file()

    @property
    def trusts(self) -> bool:
        """Whether a client can trust with what is here."""
        return self.ca.is_file() and self.bundle.is_file()


def place_in(data_folder: Path) -> Place:
    return Place(data_folder / "tls")


def door_in(data_folder: Path) -> Place:
    """Of the second door."""
    return Place(data_folder / "door")


@dataclass(frozen=True, slots=True)
class Made:
    """What a call of `ensure` found or made."""

    names: tuple[str, ...]
    expires: datetime
    new_ca: bool
    """Clients that trusted the one before have to trust this one."""
    new_cert: bool


@dataclass(frozen=True, slots=True)
class Facts:
    """What a certificate says."""

    names: tuple[str, ...]
    expires: datetime
    issuer: str


def ensure(place: Place, names: Iterable[str], now: datetime | None = None) -> Made:
    """Make what is missing, near its end or of other names; the rest stays as it is.

    Arguments:
        names: host names and addresses by which clients reach the proxy.

    Raises CertificateRefused.
    """
    now = now or datetime.now(UTC)
    wanted = tuple(dict.fromkeys(names))
    with _told(place.folder):
        place.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        authority = _authority(place, wanted, now)
        if new_ca := authority is None:
            authority = _new_authority(wanted, now)
            _write(place.ca_key, _key_bytes(authority.key))
            _write(place.ca, _cert_bytes(authority.cert))
        known = None if new_ca else _server(place, authority, wanted, now)
        new_cert = known is None
        if known is None:
            known, key = _issue(authority, wanted, now)
            # the key first: a start between the two finds a pair that does not fit, and says so
            _write(place.key, _key_bytes(key))
            _write(place.cert, _cert_bytes(known) + _cert_bytes(authority.cert))
        if new_ca or not place.bundle.is_file():
            write_bundle(place)
    return Made(_names(known), known.not_valid_after_utc, new_ca, new_cert)


def renew(place: Place, now: datetime | None = None) -> Made | None:
    """Make the proxy's certificate anew where it is near its end, for the names that it has.

    None where only `lmk tls` can help: the authority is gone, or near its own end, and clients
    would have to trust another. Raises CertificateRefused.
    """
    now = now or datetime.now(UTC)
    names = facts(place.cert).names
    with _told(place.folder):
        if _authority(place, names, now) is None:
            return None
    return ensure(place, names, now)


def refresh(place: Place, now: datetime | None = None) -> str:
    """What a start and a long run do: renew the certificate near its end, take the system's roots
    anew. A warning, or ""."""
    now = now or datetime.now(UTC)
    try:
        if facts(place.cert).expires - now < timedelta(days=_RENEW_DAYS):
            if renew(place, now) is None:
                return (
                    f"The certificate {place.cert} ends soon, and so does what vouches for it. "
                    "Run lmk tls; clients will have to trust another ca.pem."
                )
        elif place.trusts:
            with _told(place.folder):
                write_bundle(place)
    except CertificateRefused as refused:
        return str(refused)
    return ""


def trust(place: Place, ca: Path) -> Facts:
    """On a client's machine: trust the authority in `ca`, another machine's ca.pem.

    Raises CertificateRefused.
    """
    cert = _foreign(place, ca)
    with _told(place.folder):
        place.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(place.ca, _cert_bytes(cert), mode=0o644)
        write_bundle(place)
    return Facts(_permitted(cert), cert.not_valid_after_utc, cert.issuer.rfc4514_string())


def _foreign(place: Place, ca: Path) -> x509.Certificate:
    """Another machine's authority, where it is one and this machine has none."""
    from cryptography import x509

    if place.ca_key.exists():
        raise CertificateRefused(
            f"This machine has an authority of its own in {place.folder}, which a proxy uses here. "
            "Name another data folder by LLAMAKEY_HOME to be a client of another proxy."
        )
    with _told(ca):
        data = ca.read_bytes()
        try:
            cert = x509.load_pem_x509_certificate(data)
            is_ca = cert.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        except (ValueError, x509.ExtensionNotFound):
            is_ca = False
        if not is_ca or b"PRIVATE KEY" in data:
            raise CertificateRefused(
                f"{ca} is no authority's certificate. Take ca.pem as `lmk tls` names it on the "
                "proxy's machine."
            )
    return cert


def ensure_door(
    place: Place, front: Place, hosts: Iterable[str], now: datetime | None = None
) -> tuple[str, ...]:
    """Make the second door's authority where there is none that vouches for all these hosts, and
    clients' bundles anew.

    Arguments:
        front: of the proxy's own certificate, whose authority clients trust as well.

    Returns the hosts for which the one before did not vouch; all where it was near its end; none
    where it stays. Raises CertificateRefused.
    """
    now = now or datetime.now(UTC)
    wanted = tuple(dict.fromkeys(hosts))
    with _told(place.folder):
        place.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _authority(place, wanted, now) is not None:
            _write_door_bundle(place, front)
            return ()
        before = _permitted(_read_cert(place.ca)) if place.ca.is_file() else ()
        authority = _new_authority(wanted, now)
        _write(place.ca_key, _key_bytes(authority.key))
        _write(place.ca, _cert_bytes(authority.cert))
        _write_door_bundle(place, front)
    return tuple(host for host in wanted if host not in before) or wanted


def not_vouched_for(place: Place, hosts: Iterable[str]) -> list[str]:
    """Of these hosts those for which an authority does not vouch. Raises CertificateRefused."""
    with _told(place.folder):
        permitted = _permitted(_read_cert(place.ca))
    return [host for host in hosts if not _vouches(permitted, host)]


def _vouches(permitted: Iterable[str], host: str) -> bool:
    """Whether name constraints let a name pass: one of them, or one below it (RFC 5280)."""
    return any(host == name or host.endswith(f".{name}") for name in permitted)


@contextlib.contextmanager
def leaf(place: Place, host: str, now: datetime | None = None) -> Iterator[str]:
    """Path of a PEM file, 0600, with a new certificate for a host, its chain and its key; it is
    gone when this ends.

    Raises CertificateRefused: also where the authority does not vouch for this host.
    """
    now = now or datetime.now(UTC)
    with _told(place.folder):
        cert, key = _read_cert(place.ca), _read_key(place.ca_key)
        if not _vouches(_permitted(cert), host):
            raise CertificateRefused(f"{place.ca} does not vouch for {host}")
        made, own_key = _issue(_Authority(cert, key), (host,), now, days=_LEAF_DAYS)
        descriptor, name = tempfile.mkstemp(prefix=".leaf.", dir=place.folder)
        try:
            with open(descriptor, "wb") as file:
                file.write(_key_bytes(own_key) + _cert_bytes(made) + _cert_bytes(cert))
            yield name
        finally:
            Path(name).unlink(missing_ok=True)


def trust_door(place: Place, front: Place, ca: Path) -> Facts:
    """On a client's machine: trust the second door's authority in `ca`, another machine's.

    Raises CertificateRefused.
    """
    cert = _foreign(place, ca)
    with _told(place.folder):
        place.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(place.ca, _cert_bytes(cert), mode=0o644)
        _write_door_bundle(place, front)
    return Facts(_permitted(cert), cert.not_valid_after_utc, cert.issuer.rfc4514_string())


def refresh_door(place: Place, front: Place) -> None:
    """After the front door's authority has changed: clients of the second door, where there is one,
    trust that one as well. Raises CertificateRefused."""
    if place.ca.is_file():
        with _told(place.folder):
            _write_door_bundle(place, front)


def _write_door_bundle(place: Place, front: Place) -> None:
    ours = place.ca.read_bytes()
    if front.ca.is_file():
        ours += front.ca.read_bytes()
    _write(place.ours, ours, mode=0o644)
    roots = system_roots(place.bundle, front.bundle)
    _write(place.bundle, roots.rstrip() + b"\n\n# LlamaKey's own\n" + ours, mode=0o644)


def facts(cert: Path) -> Facts:
    """What the first certificate in a PEM file says. Raises CertificateRefused."""
    from cryptography import x509

    with _told(cert):
        found = x509.load_pem_x509_certificates(cert.read_bytes())[0]
    return Facts(_names(found), found.not_valid_after_utc, found.issuer.rfc4514_string())


def write_bundle(place: Place) -> None:
    """The system's roots as they are now, and our authority."""
    roots = system_roots(place.bundle)
    ours = place.ca.read_bytes()
    _write(place.bundle, roots.rstrip() + b"\n\n# LlamaKey's own\n" + ours, mode=0o644)


def system_roots(*but: Path) -> bytes:
    """PEM of what this system trusts, or what SSL_CERT_FILE says; never the files `but`."""
    named = ssl.get_default_verify_paths().cafile
    for path in (named, *_SYSTEM_ROOTS):
        if path and Path(path).is_file() and not any(_same(Path(path), file) for file in but):
            return Path(path).read_bytes()
    context = ssl.create_default_context()  # Windows and macOS keep theirs elsewhere
    found = context.get_ca_certs(binary_form=True)
    if found:
        return "".join(map(ssl.DER_cert_to_PEM_cert, found)).encode()
    import certifi

    return Path(certifi.where()).read_bytes()


# --- the authority --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Authority:
    cert: x509.Certificate
    key: EllipticCurvePrivateKey


def _authority(place: Place, names: tuple[str, ...], now: datetime) -> _Authority | None:
    """The authority that is here, where it can vouch for these names for long enough."""
    if not (place.ca.is_file() and place.ca_key.is_file()):
        return None
    cert, key = _read_cert(place.ca), _read_key(place.ca_key)
    if (
        cert.not_valid_after_utc - now < timedelta(days=_CA_RENEW_DAYS)
        or cert.public_key() != key.public_key()
        or not set(names) <= set(_permitted(cert))
    ):
        return None
    return _Authority(cert, key)


def _new_authority(names: tuple[str, ...], now: datetime) -> _Authority:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    # The serial makes the name its own: clients that look issuers up by name keep them apart.
    title = _title(f"LlamaKey authority {x509.random_serial_number():x}"[:40])
    cert = (
        _builder(title, title, key, now, _CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(
            x509.NameConstraints([_constraint(name) for name in names], _no_address(names)),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _Authority(cert, key)


def _server(
    place: Place, authority: _Authority, names: tuple[str, ...], now: datetime
) -> x509.Certificate | None:
    """The proxy's certificate that is here, where it is still good."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    if not place.serves:
        return None
    cert = x509.load_pem_x509_certificates(place.cert.read_bytes())[0]
    try:
        cert.verify_directly_issued_by(authority.cert)
    except (ValueError, TypeError, InvalidSignature):
        return None
    if (
        cert.not_valid_after_utc - now < timedelta(days=_RENEW_DAYS)
        or set(_names(cert)) != set(names)
        or cert.public_key() != _read_key(place.key).public_key()
    ):
        return None
    return cert


def _issue(
    authority: _Authority, names: tuple[str, ...], now: datetime, *, days: int = _DAYS
) -> tuple[x509.Certificate, EllipticCurvePrivateKey]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    key = ec.generate_private_key(ec.SECP256R1())
    cert = (
        _builder(_title("LlamaKey"), authority.cert.subject, key, now, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([_general(name) for name in names]), critical=False
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()),
            critical=False,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    return cert, key


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: EllipticCurvePrivateKey,
    now: datetime,
    days: int,
) -> x509.CertificateBuilder:
    from cryptography import x509

    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # clocks differ
        .not_valid_after(now + timedelta(days=days))
    )


def _title(text: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


# --- names ----------------------------------------------------------------------------------------


def _general(name: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _constraint(name: str) -> x509.GeneralName:
    """A name as a constraint has it: an address is a network of one."""
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_network(name))
    except ValueError:
        return x509.DNSName(name)


def _no_address(names: Iterable[str]) -> list[x509.GeneralName] | None:
    """What is excluded: constraints on names alone would leave every address free."""
    from cryptography import x509

    if any(isinstance(_constraint(name), x509.IPAddress) for name in names):
        return None
    return [x509.IPAddress(ipaddress.ip_network(text)) for text in ("0.0.0.0/0", "::/0")]


def _names(cert: x509.Certificate) -> tuple[str, ...]:
    from cryptography import x509

    try:
        found = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(name.value) for name in found)


def _permitted(ca: x509.Certificate) -> tuple[str, ...]:
    from cryptography import x509

    try:
        found = ca.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(
        str(name.value.network_address)
        if isinstance(name.value, ipaddress.IPv4Network | ipaddress.IPv6Network)
        else str(name.value)
        for name in found.permitted_subtrees or ()
    )


# --- files ----------------------------------------------------------------------------------------


def _cert_bytes(cert: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return cert.public_bytes(Encoding.PEM)


def _key_bytes(key: EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _read_cert(path: Path) -> x509.Certificate:
    from cryptography import x509

    return x509.load_pem_x509_certificate(path.read_bytes())


def _read_key(path: Path) -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, EllipticCurvePrivateKey):
        raise ValueError(f"{path.name} is no key that `lmk tls` made")
    return key


def _write(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Beside, then in place of the old one."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, mode)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CertificateRefused(
            f"{error.filename or path} can't be used ({error.strerror or type(error).__name__}). "
            "Give the data folder to this user, or name another by LLAMAKEY_HOME."
        ) from None
    except ValueError as error:
        raise CertificateRefused(
            f"A file in {path} is no certificate or key ({error}). Move it away, and run lmk tls."
        ) from None


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
