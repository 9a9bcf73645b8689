"""The second door on sockets: TLS with its own authority, tunnels, and what is refused there."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
import stat
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from llamakey_addon import certificates
from llamakey_addon.config import Listen, Settings
from llamakey_addon.dial import Names, check_public
from llamakey_addon.errors import ConfigError, Forbidden
from llamakey_addon.house import House
from llamakey_addon.serve import ports, second
from llamakey_addon.store import open_store
from tests.front import until
from tests.loops import event_loop_policy as event_loop_policy
from tests.roadside import Log, make_bench

OPENAI = "api.openai.com"
HEALTHY = b"HTTP/1.1 200 Connection established\r\n\r\n"


@dataclass
class Second:
    """An open second door in this process."""

    house: House
    log: Log
    port: int
    key: str
    place: certificates.Place
    callers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def call(
        self, authority: str, *, key: str = ""
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
        """A connection that has sent CONNECT, and the head of the answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.callers.append(writer)
        head = f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n"
        if key:
            pair = base64.b64encode(f"key:{key}".encode()).decode()
            head += f"Proxy-Authorization: Basic {pair}\r\n"
        writer.write(f"{head}\r\n".encode())
        return reader, writer, await reader.readuntil(b"\r\n\r\n")

    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.place.bundle))

    def empty(self) -> bool:
        return not self.house._connections and not self.house.roads


@contextlib.asynccontextmanager
async def opened(folder: Path, **config: Any) -> AsyncIterator[Second]:
    with make_bench(folder, {"head_timeout_s": 5.0}, **config) as bench:
        settings, key = second.prepare(bench.gate.settings), bench.key
    log = Log()
    house = House(settings, open_store(settings.data_folder), log)
    sockets = ports.listening(Listen("127.0.0.1", 0))
    door = second.SecondDoor(house, sockets)
    await door.open()
    made = Second(
        house,
        log,
        sockets[0].getsockname()[1],
        key,
        certificates.door_in(settings.data_folder),
    )
    try:
        yield made
    finally:
        for caller in made.callers:
            caller.transport.abort()
            with contextlib.suppress(OSError):
                await caller.wait_closed()
        door.shut()
        house.close()
    await until(made.empty)


async def secured(made: Second, name: str, host: str = OPENAI) -> tuple[bytes, ssl.SSLObject]:
    """What a request by a tunnel is answered, and its TLS."""
    reader, writer, answer = await made.call(f"{OPENAI}:443")
    assert answer == HEALTHY
    context = made.trust()
    context.check_hostname = name == OPENAI
    context.set_alpn_protocols(["h2", "http/1.1"])
    await writer.start_tls(context, server_hostname=name)
    tls = writer.get_extra_info("ssl_object")
    writer.write(f"GET /v1/models HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    got = await reader.readuntil(b"\r\n\r\n")
    writer.transport.abort()
    return got, tls


async def test_tls_as_the_providers_host(tmp_path: Path) -> None:
    async with opened(tmp_path) as made:
        got, tls = await secured(made, OPENAI)
        assert got.startswith(b"HTTP/1.1 401 ")
        assert tls.selected_alpn_protocol() == "http/1.1"
        assert dict(tls.getpeercert() or {})["subjectAltName"] == (("DNS", OPENAI),)
        # what is not the tunnel's own: another name in TLS, another Host
        for name, host in (("api.mistral.ai", OPENAI), (OPENAI, "api.mistral.ai")):
            got, _ = await secured(made, name, host)
            assert got.startswith(b"HTTP/1.1 421 ")
        assert [r.status for r in made.log.receipts] == [401, 421, 421]


async def test_hosts_that_clients_name_get_only_so_many_certificates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(second, "_AT_ONCE", 2)
    monkeypatch.setattr(second, "_NAMED", 1)
    made: list[str] = []
    leaf = certificates.leaf

    def counted(place: certificates.Place, host: str) -> Any:
        made.append(host)
        return leaf(place, host)

    monkeypatch.setattr(certificates, "leaf", counted)
    now = [1000.0]
    monkeypatch.setattr(second, "time", SimpleNamespace(monotonic=lambda: now[0]))
    async with opened(tmp_path) as here:
        hosts = [f"index-{number}.svc.eu-west1.pinecone.io" for number in range(3)]

        async def told(host: str) -> bytes:
            _, writer, answer = await here.call(f"{host}:443")
            writer.transport.abort()
            return answer.split(b"\r\n")[0][9:12]

        assert [await told(host) for host in (*hosts[:2], hosts[1])] == [b"200"] * 3
        assert made == hosts[:2]
        assert await told(hosts[2]) == b"429"
        assert await told(hosts[1]) == b"200", "the one that is kept"
        assert await told(hosts[0]) == b"429", "one is kept, the last"
        # hosts of the catalogue are as many as they are
        assert [await told(host) for host in (OPENAI, "api.mistral.ai")] == [b"200"] * 2
        now[0] += 1
        assert [await told(hosts[2]), await told(hosts[0])] == [b"200", b"429"]
        assert made == [*hosts[:2], OPENAI, "api.mistral.ai", hosts[2]]


async def test_whoever_does_not_trust_it_leaves(tmp_path: Path) -> None:
    async with opened(tmp_path) as made:
        _, writer, _ = await made.call(f"{OPENAI}:443")
        with pytest.raises(ssl.SSLCertVerificationError):
            await writer.start_tls(ssl.create_default_context(), server_hostname=OPENAI)
        _, other, _ = await made.call(f"{OPENAI}:443")
        other.write(b"GET / HTTP/1.1\r\n\r\n")  # no handshake
        _, silent, _ = await made.call(f"{OPENAI}:443")
        silent.transport.abort()
        await until(made.empty)
        assert made.log.receipts == []


async def test_bytes_pass_to_what_is_written_out_and_not_by_a_glob(tmp_path: Path) -> None:
    seen = bytearray()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            seen.extend(data)
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    tunnel = [f"127.0.0.1:{port}", f"127.*.*.2:{port}", f"local*:{port}"]
    async with server, opened(tmp_path, door={"tunnel": tunnel}) as made:
        reader, writer, answer = await made.call(f"127.0.0.1:{port}", key=made.key)
        assert answer == HEALTHY
        big = bytes(range(256)) * 8192
        writer.write(big)
        assert await reader.readexactly(len(big)) == big
        writer.close()
        await until(made.empty)
        for host in ("127.0.0.2", "localhost"):
            _, writer, answer = await made.call(f"{host}:{port}", key=made.key)
            assert answer.startswith(b"HTTP/1.1 403 " + host.encode() + b" is in a private network")
            writer.close()
        _, writer, answer = await made.call(f"127.0.0.1:{port}")
        assert answer.startswith(b"HTTP/1.1 407 ")
        writer.close()
    assert bytes(seen) == big


@pytest.mark.parametrize(
    ("host", "public"),
    [
        ("93.184.215.14", True),
        ("2606:4700::6810:84e5", True),
        ("10.0.0.1", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("fe80::1", False),
        ("fd00::1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::a00:1", False),
        ("2002:a00:1::", False),
        ("::7f00:1", False),
        ("fec0::1", False),
    ],
)
async def test_which_addresses_are_public(host: str, public: bool) -> None:
    if public:
        assert await check_public(Names(), host, 443)
    else:
        with pytest.raises(Forbidden, match="private network"):
            await check_public(Names(), host, 443)


# ── its authority ───────────────────────────────────────────────────────────────────────────────


def test_the_authority_vouches_for_providers_hosts_alone(tmp_path: Path) -> None:
    place, front = certificates.door_in(tmp_path), certificates.place_in(tmp_path)
    assert certificates.ensure_door(place, front, [OPENAI, "api.mistral.ai"]) == (
        OPENAI,
        "api.mistral.ai",
    )
    assert stat.S_IMODE(place.ca_key.stat().st_mode) == 0o600
    assert stat.S_IMODE(place.folder.stat().st_mode) == 0o700
    with certificates.leaf(place, OPENAI) as path:
        assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
        assert verifies(place, path, OPENAI) == ""
    assert not Path(path).exists()
    with certificates.leaf(place, f"index-1.{OPENAI}") as path:  # of a domain, what is below it
        assert verifies(place, path, f"index-1.{OPENAI}") == ""
    with pytest.raises(certificates.CertificateRefused, match=r"vouch for evil\.example"):
        certificates.leaf(place, "evil.example").__enter__()
    # and clients would not believe it, whoever has its key
    now = datetime.now(UTC)
    authority = certificates._authority(place, (OPENAI,), now)
    assert authority is not None
    for name in ("evil.example", "127.0.0.1"):
        cert, key = certificates._issue(authority, (name,), now)
        forged = tmp_path / "forged.pem"
        forged.write_bytes(certificates._key_bytes(key) + certificates._cert_bytes(cert))
        assert "subtree violation" in verifies(place, str(forged), name)
    assert certificates.ensure_door(place, front, [OPENAI]) == ()
    before = place.ca.read_bytes()
    assert certificates.ensure_door(place, front, [OPENAI, "new.example"]) == ("new.example",)
    assert place.ca.read_bytes() != before


def verifies(place: certificates.Place, path: str, name: str) -> str:
    """What a client holds against a server's certificate; "" for nothing."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    client = ssl.create_default_context(cafile=str(place.bundle))
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client.wrap_bio(down, up, server_hostname=name)
    other = server.wrap_bio(up, down, server_side=True)
    for _ in range(4):
        for end in (one, other):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLCertVerificationError as error:
                return error.verify_message
    return ""


def test_clients_of_both_doors_trust_both(tmp_path: Path) -> None:
    place, front = certificates.door_in(tmp_path), certificates.place_in(tmp_path)
    certificates.ensure(front, certificates.OWN_NAMES)
    certificates.ensure_door(place, front, [OPENAI])
    for path in (place.ours, place.bundle):
        text = path.read_bytes()
        assert place.ca.read_bytes() in text
        assert front.ca.read_bytes() in text
    place.ours.unlink()
    certificates.refresh_door(place, front)
    assert front.ca.read_bytes() in place.ours.read_bytes()
    elsewhere = tmp_path / "elsewhere"
    facts = certificates.trust_door(
        certificates.door_in(elsewhere), certificates.place_in(elsewhere), place.ca
    )
    assert facts.names == (OPENAI,)
    assert certificates.door_in(elsewhere).ours.read_bytes() == place.ca.read_bytes()


def loaded(folder: Path, environ: dict[str, str] | None = None, **config: Any) -> Settings:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return Settings.load(path, {"LLAMAKEY_HOME": str(folder / "data"), **(environ or {})})


async def test_a_host_that_config_adds_waits_for_the_next_start(tmp_path: Path) -> None:
    gpu = {"gpu": {"upstream": "https://gpu.corp.example", "like": "openai"}}
    async with opened(tmp_path) as made:
        new = loaded(tmp_path, providers=gpu, door={"open": True})
        assert second.lacking(new) == ["gpu.corp.example"]
        made.house.reload(new)
        _, writer, answer = await made.call("gpu.corp.example:443", key=made.key)
        assert answer.startswith(b"HTTP/1.1 503 The second door's authority does not vouch for gpu")
        writer.close()
        assert second.prepare(new).door.trust is not None
        _, writer, answer = await made.call("gpu.corp.example:443", key=made.key)
        assert answer == HEALTHY
        writer.close()


# ── settings ────────────────────────────────────────────────────────────────────────────────────


def test_it_is_closed_unless_it_is_asked_for(tmp_path: Path) -> None:
    settings = loaded(tmp_path)
    assert not settings.door.open
    assert settings.door.url == "http://localhost:8001"
    assert loaded(tmp_path, door={"open": True}).door.open


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"door": {"open": True, "listen": "localhost:8000"}}, "has the port of `listen`"),
        ({"door": {"open": True, "listen": "0.0.0.0:8001"}}, "take local keys in clear"),
        ({"door": {"open": True, "listen": "nonsense:port"}}, "`door.listen`"),
        ({"door": {"tunnel": ["https://pypi.org"]}}, "tunnel"),
        ({"door": {"tunnels": []}}, "tunnels"),
    ],
)
def test_faults(tmp_path: Path, config: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        loaded(tmp_path, **config)


def test_a_door_that_others_reach(tmp_path: Path) -> None:
    settings = loaded(
        tmp_path,
        allow_plain=True,
        public_url="https://llm.example.com",
        door={"open": True, "listen": "0.0.0.0:8001"},
    )
    assert settings.door.url == "http://llm.example.com:8001"


def test_a_proxy_that_would_go_through_its_own_door_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = loaded(tmp_path, door={"open": True})
    monkeypatch.setenv("HTTPS_PROXY", "http://key:sk-lmk-x@localhost:8001")
    with pytest.raises(ConfigError, match="its own second door"):
        second.prepare(settings)
