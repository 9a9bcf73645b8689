"""Certificates of the fakes, made for each run: from a CA that a proxy is told of, and bad ones."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

import trustme

KINDS = ("good", "untrusted", "other-host", "expired", "google")
"""`untrusted` has a CA that nobody was told of, `other-host` a name that is not localhost, `google`
Google's names, for proxies that are led to it under them."""


class Certificates:
    """A CA in `folder` (as `ca.pem`) and one TLS context a kind. Offers `http/1.1` alone."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._ca = trustme.CA(organization_name="fake providers")
        self._contexts: dict[str, ssl.SSLContext] = {}
        self.ca = folder / "ca.pem"
        """What the proxy's `ca:` and an SDK's SSL_CERT_FILE point to."""
        self._ca.cert_pem.write_to_path(str(self.ca))

    def context(self, kind: str = "good") -> ssl.SSLContext:
        """The server's side for a kind of `KINDS`; the same one each time."""
        if kind not in self._contexts:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.set_alpn_protocols(["http/1.1"])
            self._issue(kind).configure_cert(context)
            self._contexts[kind] = context
        return self._contexts[kind]

    def client_context(self) -> ssl.SSLContext:
        """A client's side that trusts the CA, for direct calls."""
        return ssl.create_default_context(cafile=str(self.ca))

    def _issue(self, kind: str) -> trustme.LeafCert:
        match kind:
            case "good":
                return self._ca.issue_cert("localhost", "127.0.0.1", "::1")
            case "google":
                return self._ca.issue_cert("*.googleapis.com", "aiplatform.us.rep.googleapis.com")
            case "untrusted":
                return trustme.CA().issue_cert("localhost", "127.0.0.1", "::1")
            case "other-host":
                return self._ca.issue_cert("elsewhere.example")
            case "expired":
                now = datetime.datetime.now(datetime.UTC)
                return self._ca.issue_cert(
                    "localhost",
                    not_before=now - datetime.timedelta(days=2),
                    not_after=now - datetime.timedelta(days=1),
                )
        raise ValueError(f"no kind of certificate is called {kind!r}: use one of {KINDS}")
