"""The two ends of the demo: a fake provider over TLS, and a tap on the client's line.

The provider has the shape of OpenAI's `POST /v1/chat/completions`, plain and streamed, demands the
real key and remembers what it got. The tap stands between the client and the proxy and remembers
the bytes that the client sent.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ANSWER = "Hello! I only ever saw the real key."
_BETWEEN_CHUNKS_S = 0.03


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as one end saw it."""

    line: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Provider:
    """The fake provider, in threads of its own until `close`.

    Arguments:
        key: the real key, which it demands.
        folder: where its certificate goes, as `ca.pem`.
    """

    def __init__(self, key: str, folder: Path) -> None:
        self.seen: list[Seen] = []
        self.ca = folder / "ca.pem"
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(key, self.seen))
        self._server.daemon_threads = True
        context = _certificate(self.ca, folder / "provider.pem")
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(key: str, seen: list[Seen]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            seen.append(Seen(self.requestline, tuple(self.headers.items()), body))
            if self.headers.get("Authorization") != f"Bearer {key}":
                self._json(401, {"error": {"message": "Incorrect API key", "type": "auth"}})
            elif json.loads(body).get("stream"):
                self._stream()
            else:
                message = {"role": "assistant", "content": ANSWER}
                self._json(200, _completion("chat.completion", "message", message))

        def _json(self, status: int, content: object) -> None:
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _stream(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for word in ANSWER.split(" "):
                delta = {"role": "assistant", "content": f"{word} "}
                self._event(json.dumps(_completion("chat.completion.chunk", "delta", delta)))
                time.sleep(_BETWEEN_CHUNKS_S)
            self._event("[DONE]")
            self.wfile.write(b"0\r\n\r\n")

        def _event(self, text: str) -> None:
            data = f"data: {text}\n\n".encode()
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

        def log_message(self, format: str, *_: object) -> None:
            """The demo prints what it wants to."""

    return Handler


def _completion(kind: str, part: str, content: dict[str, str]) -> dict[str, object]:
    return {
        "id": "chatcmpl-demo",
        "object": kind,
        "created": 0,
        "model": "demo-model",
        "choices": [{"index": 0, part: content, "finish_reason": None}],
    }


def _certificate(ca: Path, pair: Path) -> ssl.SSLContext:
    """A certificate for localhost that signs itself, for an hour; `ca` is what to trust."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "LlamaKey demo")])
    now = datetime.datetime.now(datetime.UTC)
    hour = datetime.timedelta(hours=1)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    public = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    usage = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - hour)
        .not_valid_after(now + hour)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=True, key_cert_sign=True, **usage), critical=True
        )
        .add_extension(public, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier(public.digest, None, None),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    ca.write_bytes(pem)
    pair.touch(mode=0o600)
    pair.write_bytes(
        pem
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair)
    return context


class Tap:
    """Passes bytes on to the proxy, and keeps those of the client."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._streams: list[bytearray] = []
        self._target = 0

    def start(self, port: int) -> None:
        """Pass on to this port on loopback."""
        self._target = port
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    @property
    def sent(self) -> bytes:
        """Everything that clients have sent."""
        return b"".join(map(bytes, self._streams))

    @property
    def seen(self) -> list[Seen]:
        """The requests in it."""
        return [request for stream in self._streams for request in _requests(bytes(stream))]

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            kept = bytearray()
            self._streams.append(kept)
            proxy = socket.create_connection(("localhost", self._target))
            for source, target, copy in ((client, proxy, kept), (proxy, client, None)):
                threading.Thread(target=_pump, args=(source, target, copy), daemon=True).start()


def _pump(source: socket.socket, target: socket.socket, copy: bytearray | None) -> None:
    with _closing(target):
        while data := source.recv(65536):
            if copy is not None:
                copy += data
            target.sendall(data)


@contextmanager
def _closing(target: socket.socket) -> Iterator[None]:
    with suppress(OSError):
        try:
            yield
        finally:
            target.shutdown(socket.SHUT_WR)


def _requests(stream: bytes) -> Iterator[Seen]:
    """Requests with a Content-Length, one after the other, as SDKs send JSON."""
    while b"\r\n\r\n" in stream:
        head, _, stream = stream.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = tuple(
            (name, value.strip()) for name, _, value in (s.partition(":") for s in lines)
        )
        length = next((int(v) for name, v in headers if name.lower() == "content-length"), 0)
        yield Seen(first, headers, stream[:length])
        stream = stream[length:]
