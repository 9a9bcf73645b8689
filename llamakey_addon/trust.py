"""What a provider's certificate is verified with, and TLS sessions that are taken up again.

A session that is resumed spares a round trip's worth of work on both sides, and the certificate is
not looked at a second time: so sessions are kept by the host that was verified, in the context that
verified it.
"""

from __future__ import annotations

import contextlib
import ssl
import sys
from pathlib import Path
from typing import Any, Final

from llamakey_addon.errors import ConfigError

_SESSIONS_KEPT: Final = 256


class TrustContext(ssl.SSLContext):
    """A client's context that takes up the last session with a host."""

    _sessions: dict[str, ssl.SSLSession]

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        if isinstance(server_hostname, str):
            session = session or self._sessions.get(server_hostname)
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)

    def keep_session(self, tls: Any) -> None:
        """Remember the session of a connection that has received something: tickets come late.

        Arguments:
            tls: its `ssl.SSLObject`.
        """
        session, host = tls.session, tls.server_hostname
        if session is not None and session.has_ticket and host:
            if len(self._sessions) >= _SESSIONS_KEPT:
                self._sessions.clear()
            self._sessions[host] = session


def trust(ca: str) -> TrustContext:
    """What a provider's certificate is verified with: the system's roots, and those in `ca`.

    Raises:
        ConfigError: the file cannot be read as PEM.
    """
    # As `ssl.create_default_context` does it, but for SSLKEYLOGFILE, which would write down keys
    # with which what we send can be read.
    context = TrustContext(ssl.PROTOCOL_TLS_CLIENT)
    context._sessions = {}
    if sys.version_info >= (3, 13):
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_STRICT
    context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    if not context.cert_store_stats()["x509_ca"] and not _has_root_folder():
        with contextlib.suppress(ImportError):  # a Python without the system's roots
            import certifi

            context.load_verify_locations(certifi.where())
    if ca:
        try:
            context.load_verify_locations(ca)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"{ca}: no PEM file of trusted certificates ({error})") from None
    return context


def _has_root_folder() -> bool:
    folder = ssl.get_default_verify_paths().capath
    return bool(folder) and any(Path(str(folder)).glob("*.0"))
