"""Requests by grammar and by mutation; answers by plan. All from a seed, so all can be had again.

Every request has a nonce in its target. The plan of its answer is made from the nonce, so that the
provider which answers and the client which judges the answer agree without a word.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from random import Random

from tests.fuzz.pieces import METHODS_WITHOUT_BODY, chunked, digest

HIDDEN = "hidden-in-a-body"
"""Stands in the target of requests that hide in bodies: no provider may ever see it."""

PROVIDERS = ("anthropic", "cohere", "openai")
METHODS = ("GET", "GET", "POST", "POST", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS")
PLAIN = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~"
SEGMENTS = ("%20", "%C3%A9", "%25", "%3A", "a:b", "@", "!$&'()*+,=", "...", "a..b", "-", "~")
QUERIES = ("a=b", "a=%2e%2e%2f", "x=//", "b", "=", "&", "a=b;c", "q=%00", "u=http://h/p?", "[]=1")
NAMES = ("X-A", "x-b", "X-Long", "Content-Type", "User-Agent", "Accept", "Range", "X!#$%'*+.^`|~")
STAYS = (
    ("X-Forwarded-For", "10.0.0.1"),
    ("Forwarded", "for=a"),
    ("Via", "1.1 x"),
    ("Cookie", "a=b"),
    ("TE", "trailers"),
    ("Keep-Alive", "timeout=5"),
    ("Proxy-Connection", "keep-alive"),
    ("X_Forwarded_Host", "h"),
    ("OpenAI-Organization", "org"),
    ("X-HTTP-Method-Override", "DELETE"),
    ("Upgrade", "h2c"),
    ("X-Real-IP", "10.0.0.1"),
)
"""Headers that concern the proxy or the client's own account: they never travel."""

TOKENS = (
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\n\n",
    b"\x00",
    b" ",
    b"\t",
    b":",
    b"\xff",
    b"\r\n ",
    b"\r\nContent-Length: 5",
    b"\r\nContent-Length: 0",
    b"\r\nTransfer-Encoding: chunked",
    b"\r\nTransfer-Encoding: identity",
    b"\r\nTransfer-Encoding : chunked",
    b"\r\nConnection: close",
    b"\r\nExpect: 100-continue",
    b"\r\nHost: b",
    b"0\r\n\r\n",
    b"5\r\n",
    b"fffffffff\r\n",
    b"%2e%2e/",
    b"/../",
    b"//",
    b"%00",
    b"%2f",
    b"\\",
    b"#",
    b"?",
    b"http://a/",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"HTTP/2.0",
    b"GET /anthropic/" + HIDDEN.encode() + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    b"A" * 70000,
    b"X: y\r\n" * 120,
)


@dataclass(slots=True)
class Ask:
    """A request, its bytes, and what must come of it."""

    nonce: str
    method: str
    raw: bytes
    mutated: bool = False
    """What comes of it is open; only what may never happen is checked."""
    denied: tuple[int, ...] = ()
    """Statuses of the denial that it must get; empty where it must be served."""
    provider: str = ""
    target: str = ""
    """What the provider must get."""
    body: bytes = b""
    headers: list[tuple[str, str]] = field(default_factory=list)
    """Those that must arrive, in their order."""
    closes: bool = False
    """The client asked for the connection's end."""
    http10: bool = False
    unread: bool = False
    """Its head cannot be read, so the log knows no path."""
    judged: bool = False
    """Its body is read before it is judged, so it may be sent again on a stale connection."""
    length: int = 0
    """Bytes of its body."""
    digest: bytes = b""
    """Of its body."""

    def shed(self) -> None:
        """Keep of its bytes what is needed once it was answered."""
        self.raw = self.body = b""


def nonce(random: Random) -> str:
    return f"fz-{random.getrandbits(64):016x}"


def words(random: Random, most: int) -> str:
    return random.choice(PLAIN[:-4]) + "".join(random.choices(PLAIN, k=random.randrange(most)))


def ask(random: Random, key: str) -> Ask:
    """A request that is valid, or that must be refused for a known reason."""
    mark = nonce(random)
    kind = random.random()
    if kind < 0.12:
        return _judged(random, key, mark)
    if kind < 0.2:
        return _refused(random, key, mark)
    method = random.choice(METHODS)
    provider = random.choice(PROVIDERS)
    path = f"/v1/fuzz/{mark}"
    for _ in range(random.randrange(3)):
        path += "/" + random.choice((words(random, 12), random.choice(SEGMENTS)))
    query = "&".join(random.choices(QUERIES, k=random.randrange(4)))
    target = f"{path}?{query}" if query else path
    body = b""
    if method not in METHODS_WITHOUT_BODY and random.random() < 0.8:
        body = _body(random)
    return _write(random, key, Ask(mark, method, b"", provider=provider, target=target, body=body))


def _body(random: Random) -> bytes:
    size = random.choice((0, 1, 2, 17, 300, 5000, 70_000, 300_000))
    if random.random() < 0.3:
        hidden = f"GET /anthropic/v1/{HIDDEN} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
        return (hidden * (size // len(hidden) + 1))[: max(size, len(hidden))]
    return random.randbytes(size)


def _judged(random: Random, key: str, mark: str) -> Ask:
    """A JSON call whose body is judged: a good one, or one that must be refused."""
    good = random.random() < 0.7
    if good:
        text = "é\\u0000\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16")
        body = json.dumps(
            {"model": words(random, 9), "messages": [{"role": "user", "content": text}]},
            ensure_ascii=random.random() < 0.5,
        ).encode()
    else:
        body = random.choice(
            (
                b"[]",
                b"{",
                b"[" * 10_000,
                b'{"model": ' + b"1" * 6000 + b"}",
                b'{"model": "\xff"}',
                b'{"model": "a", "model": "b"}',
                b"NaN",
                random.randbytes(100),
            )
        )
    wish = Ask(
        mark,
        "POST",
        b"",
        provider="anthropic",
        target=f"/v1/messages?{mark}",
        body=body,
        judged=True,
    )
    if not good:
        wish.denied = (400,)
    return _write(random, key, wish)


def _refused(random: Random, key: str, mark: str) -> Ask:
    """A request that must be refused on its head."""
    which = random.randrange(5)
    path = f"/v1/fuzz/{mark}"
    wish = Ask(mark, random.choice(("GET", "POST")), b"", provider="anthropic", target=path)
    match which:
        case 0:  # no key, or a wrong one
            wish.denied = (401,)
            key = random.choice(("", "wrong", "sk-lmk-aaaaaaaaaa-" + "a" * 49, key[:-1] + "~"))
        case 1:  # nobody's prefix
            wish.denied, wish.provider = (404,), words(random, 5) + "-nobody"
        case 2:
            hidden = random.choice(("/../x", "/%2e%2e/x", "//x", "/a\\b", "/a%00", "/%2e", ";a"))
            wish.denied, wish.target = (400,), path + hidden
        case 3:
            wish.denied, wish.method = (400, 405, 501), random.choice(("TRACE", "CONNECT", "FOO"))
            wish.unread = wish.method == "FOO"
        case _:
            wish.denied, wish.unread = (400, 431), True
            bad = random.choice((("X", "a" * 17000), ("X Y", "a"), ("X", "a\x01"), ("X", "ü")))
            wish.headers.append(bad)
    return _write(random, key, wish)


def _write(random: Random, key: str, wish: Ask) -> Ask:
    """Puts the bytes of a request together."""
    line = (
        f"{wish.method} /{wish.provider}{wish.target} HTTP/1.{'0' if random.random() < 0.05 else 1}"
    )
    wish.http10 = line.endswith("0")
    lines: list[tuple[str, str]] = list(wish.headers)
    travels: list[tuple[str, str]] = []
    connection: list[str] = []
    for _ in range(random.randrange(6)):
        name = random.choice(NAMES)
        value = random.choice((words(random, 30), "", 'a, b;c="d"', "\t x \t", ":::"))
        lines.append((name, value))
        travels.append((name, value.strip(" \t")))
    for _ in range(random.choice((0, 0, 1, 2))):
        stays = random.choice(STAYS)
        lines.append(stays)
        if stays[0] == "Upgrade":
            connection.append("Upgrade")
    if random.random() < 0.1 and "Upgrade" not in connection:
        connection.append("X-Hop")
        lines.append(("X-Hop", "a"))
    if random.random() < 0.3:
        lines.append(("Accept-Encoding", random.choice(("gzip", "gzip, br", "deflate;q=1", "br"))))
    if random.random() < 0.08:
        connection.append("close")
    elif wish.http10 and random.random() < 0.5:
        connection.append("keep-alive")
    if connection:
        lines.append(("Connection", ", ".join(connection)))
    if key:
        slots = [("Authorization", f"Bearer {key}"), ("x-api-key", key)]
        own = 1 if wish.provider == "anthropic" else 0
        lines.append(slots[own])
        if random.random() < 0.2:
            lines.append(slots[1 - own])
    if "content-type" not in {name.lower() for name, _ in lines} and wish.judged:
        lines.append(("Content-Type", "application/json"))
        travels.append(("Content-Type", "application/json"))
    random.shuffle(lines)
    body = _frame(random, wish, lines)
    raw = [line, "Host: " + random.choice(("localhost", "a", "mitm.it", "x:1"))]
    raw += [f"{name}:{random.choice((' ', '', '  '))}{value}" for name, value in lines]
    wish.raw = "\r\n".join([*raw, "", ""]).encode() + body
    wish.length, wish.digest = len(wish.body), digest(wish.body)
    # what travels stands in the order in which it was written
    order = [(name, value.strip(" \t")) for name, value in lines]
    wish.headers = [pair for pair in order if pair in travels]
    wish.closes = "close" in connection or (wish.http10 and "keep-alive" not in connection)
    return wish


def _frame(random: Random, wish: Ask, lines: list[tuple[str, str]]) -> bytes:
    """Adds the headers of the body's framing; returns the framed body."""
    body = wish.body
    if not body and wish.method in METHODS_WITHOUT_BODY:
        return b""
    if wish.http10 or random.random() < 0.6:
        if body or wish.judged or random.random() < 0.7:
            lines.append(("Content-Length", str(len(body))))
        framed = body
    else:
        lines.append(("Transfer-Encoding", random.choice(("chunked", "Chunked"))))
        framed = chunked(random, body)
        framed += random.choice((b"0\r\n\r\n", b"0\r\nX-Trailer: a\r\n\r\n", b"000;x\r\n\r\n"))
    if body and not wish.http10 and random.random() < 0.05:
        lines.append(("Expect", "100-continue"))
    return framed


def mutate(random: Random, wish: Ask) -> Ask:
    """The same request with some of its bytes changed."""
    raw = bytearray(wish.raw)
    head = raw.find(b"\r\n\r\n") + 4
    for _ in range(random.choice((1, 1, 2, 3, 5))):
        # mostly in the head, where it matters
        bound = min(len(raw), head) if random.random() < 0.8 else len(raw)
        at = random.randrange(bound + 1)
        match random.randrange(6):
            case 0:
                raw[at : at + 1] = bytes([random.randrange(256)])
            case 1:
                del raw[at : at + random.choice((1, 2, 5, 40))]
            case 2:
                raw[at:at] = random.choice(TOKENS)
            case 3:
                raw[at:at] = random.randbytes(random.choice((1, 3, 20)))
            case 4:
                end = at + random.choice((1, 10, 100))
                raw[at:at] = raw[at:end]
            case _:
                if at < len(raw):
                    raw[at] ^= 1 << random.randrange(8)
    return Ask(wish.nonce, wish.method, bytes(raw), mutated=True, provider=wish.provider)
