"""The certificate of a running proxy: taken when it comes, renewed before it ends."""

from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from llamakey_addon import certificates
from llamakey_addon.certificates import OWN_NAMES, Place
from tests.cli.command import ticks


def served(port: int, place: Place) -> bytes:
    """The certificate that the port shows to a client that trusts the authority; b"" for none."""
    context = ssl.create_default_context(cafile=str(place.bundle))
    try:
        with (
            socket.create_connection(("localhost", port), 20) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secured,
        ):
            return secured.getpeercert(binary_form=True) or b""
    except OSError:
        return b""


def in_file(path: Path) -> bytes:
    text = path.read_text()
    return ssl.PEM_cert_to_DER_cert(
        text[: text.index("-----END") + len("-----END CERTIFICATE-----")]
    )


def test_a_running_proxy_takes_the_certificate_that_lmk_tls_makes(lmk):
    place = certificates.place_in(lmk.home)
    with lmk.serving() as serving:
        assert not place.serves
        assert lmk("tls").code == 0
        serving.wait_for("cert.pem has changed: settings taken")
        first = served(serving.port, place)
        assert first == in_file(place.cert)
        assert serving.get("/_llamakey/health")[0] == 200, "plain HTTP as before"
        place.cert.unlink()
        assert lmk("tls").code == 0
        for _ in ticks(20):
            if (second := served(serving.port, place)) != first:
                break
        assert second == in_file(place.cert) != first
        place.key.write_text("no key")
        serving.wait_for("not taken, the proxy goes on with the settings it has")
        assert served(serving.port, place) == second
        assert serving.stop() == 0


def test_a_start_renews_what_is_near_its_end(lmk):
    place = certificates.place_in(lmk.home)
    long_ago = datetime.now(UTC) - timedelta(days=380)
    certificates.ensure(place, OWN_NAMES, long_ago)
    ca, old = place.ca.read_bytes(), in_file(place.cert)
    with lmk.serving() as serving:
        new = served(serving.port, place)
        serving.stop()
    assert new == in_file(place.cert) != old
    assert place.ca.read_bytes() == ca
    assert "certificate" not in serving.err


def test_a_start_says_when_clients_will_have_to_trust_another(lmk):
    place = certificates.place_in(lmk.home)
    certificates.ensure(place, OWN_NAMES, datetime.now(UTC) - timedelta(days=380))
    place.ca_key.unlink()
    with lmk.serving() as serving:
        assert served(serving.port, place) == in_file(place.cert), "it has some days left"
        serving.stop()
    assert "Run lmk tls; clients will have to trust another ca.pem." in serving.err
