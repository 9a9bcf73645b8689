"""Signatures of AWS's (version 4), as clients make them with a local key: read and verified.

A client has three variables: an access key id that names the local key (`LMK<id>`), the local key
as secret access key, and the local key as session token, which AWS's SDKs send along, signed. So
the store needs nothing but the key's hash: the token proves who asks, like any other local key, and
the signature proves that nothing was changed on the way and that the request is of now. A tool
that knows no session token may use the local key as access key id, too.

No I/O. What was signed is the request as the client sent it, prefix and all (by the second door,
without one); see
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import calendar
import hashlib
import hmac
import re
import time
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

from llamakey_addon import keys
from llamakey_addon.errors import Unauthenticated
from llamakey_addon.journey import Ask, Headers

SCHEME: Final = "AWS4-HMAC-SHA256"
WINDOW_S: Final = 300
"""So far the clocks of client and proxy may be apart, as at AWS; and so long a signature counts."""
TOKEN_HEADER: Final = b"x-amz-security-token"
ID_MARK: Final = "LMK"

_PART = re.compile(r"(Credential|SignedHeaders|Signature)=([^\s,]+)")
_SCOPE = re.compile(r"([^/]+)/(\d{8})/([a-z0-9-]{1,40})/([a-z0-9-]{1,40})/aws4_request")
_TIME = re.compile(r"\d{8}T\d{6}Z")
_HASH = re.compile(r"[0-9a-f]{64}")
_SPACES = re.compile(rb" +")
#: A header with a value of its own for each call, which AWS's SDKs sign.
_CALL_HEADER: Final = b"amz-sdk-invocation-id"


@dataclass(frozen=True, slots=True)
class Claim:
    """A signature as a client sent it, not yet verified."""

    ask: Ask = field(repr=False)
    key: str = field(repr=False)
    """The local key that it should have been made with."""
    scope: tuple[str, str, str]
    """Date, region and service."""
    time: str
    signed: tuple[bytes, ...]
    """Names of the headers that it covers, in lower case and sorted."""
    signature: str
    body_sha256: str
    """As the client says it in a signed header; "" where only the body tells."""


def is_signed(ask: Ask) -> bool:
    return any(
        name.lower() == b"authorization" and value.lstrip().startswith(SCHEME.encode())
        for name, value in ask.headers
    )


def key_in(ask: Ask) -> str:
    """The local key of a signed request: its session token, or its access key id; else ""."""
    tokens = _values(ask.headers, TOKEN_HEADER)
    if tokens:
        return tokens[0].decode("latin-1") if len(tokens) == 1 else ""
    access = _parts(ask).get("Credential", "").partition("/")[0]
    return access if keys.looks_local(access) else ""


def claim(ask: Ask, now_s: float) -> Claim:
    """What a signed request claims.

    Raises Unauthenticated: it is not whole, covers too little, or is not of now.
    """
    parts, key = _parts(ask), key_in(ask)
    scope = _SCOPE.fullmatch(parts.get("Credential", ""))
    stamps = _values(ask.headers, b"x-amz-date")
    if scope is None or len(parts) != 3 or len(stamps) != 1:
        raise _refused("it is not whole: Credential, SignedHeaders, Signature, X-Amz-Date")
    parsed = keys.parse(key)
    if scope[1] != key and (parsed is None or scope[1] != f"{ID_MARK}{parsed.id}"):
        raise _refused(
            "its access key id is of another key than its session token: set AWS_ACCESS_KEY_ID, "
            "AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN together, as `lmk env --for bedrock` says"
        )
    stamp = stamps[0].decode("latin-1")
    if not _TIME.fullmatch(stamp) or not stamp.startswith(scope[2]):
        raise _refused("its date is none, or another than its scope's")
    apart_s = _seconds(stamp) - now_s
    if abs(apart_s) > WINDOW_S:
        raise _refused(
            f"it was made {abs(apart_s):.0f} s {'ahead' if apart_s > 0 else 'ago'}; signatures "
            f"count for {WINDOW_S} s: see to the clocks of client and proxy, and do not replay"
        )
    signed = tuple(parts["SignedHeaders"].encode("latin-1").split(b";"))
    must = {b"host"} | {n.lower() for n, _ in ask.headers if n.lower().startswith(b"x-amz-")}
    if list(signed) != sorted(set(signed)) or not must <= set(signed):
        raise _refused("it does not cover Host and every X-Amz- header")
    hashes = _values(ask.headers, b"x-amz-content-sha256")
    body = hashes[0].decode("latin-1") if len(hashes) == 1 else ""
    if hashes and not _HASH.fullmatch(body):
        raise _refused("it does not cover the body: X-Amz-Content-SHA256 is no hash")
    return Claim(ask, key, (scope[2], scope[3], scope[4]), stamp, signed, parts["Signature"], body)


def verify(claim: Claim, content: bytes | None) -> None:
    """Raise Unauthenticated where the signature does not fit the request.

    Arguments:
        content: the whole body; None while it is not there: then the signature is judged by the
            hash that the head gives, which must be there.
    """
    body = claim.body_sha256
    if content is not None:
        found = hashlib.sha256(content).hexdigest()
        if body and body != found:
            raise _refused("the body is another than the one that was signed")
        body = found
    wanted = sign(claim, body)
    if not hmac.compare_digest(wanted.encode(), claim.signature.encode("latin-1")):
        raise _refused(
            "it does not fit: the secret access key is not the local key, or something between "
            "client and proxy has changed the request (Host, path or headers)"
        )


def sign(claim: Claim, body_sha256: str) -> str:
    """The signature that fits a request."""
    path, _, query = claim.ask.sent_target.partition("?")
    fields = b"".join(
        b"%b:%b\n" % (name, b",".join(_SPACES.sub(b" ", v.strip()) for v in values))
        for name in claim.signed
        for values in [_values(claim.ask.headers, name)]
    )
    canonical = b"\n".join(
        (
            claim.ask.method.encode("ascii"),
            # encoded once more, as AWS does for every service but S3
            quote(path, safe="/~").encode("ascii"),
            _canonical_query(query).encode("ascii"),
            fields,
            b";".join(claim.signed),
            body_sha256.encode("ascii"),
        )
    )
    date, region, service = claim.scope
    to_sign = "\n".join(
        (
            SCHEME,
            claim.time,
            f"{date}/{region}/{service}/aws4_request",
            hashlib.sha256(canonical).hexdigest(),
        )
    )
    key = f"AWS4{claim.key}".encode("ascii")
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode("ascii"), hashlib.sha256)
    return hmac.digest(key, to_sign.encode("ascii"), hashlib.sha256).hex()


def counts_once(claim: Claim) -> bool:
    """Whether a signature is of one call alone.

    AWS's SDKs sign an id of the call, so that no two calls of theirs have one signature: such a one
    is served once. Clients that sign no such id may rightly send two equal requests within a
    second; theirs count until their time is over, as at AWS itself.
    """
    return _CALL_HEADER in claim.signed


def used_before() -> Unauthenticated:
    """What is said to a call that comes again."""
    return _refused("it was used before; each call is signed anew")


def _parts(ask: Ask) -> dict[str, str]:
    values = _values(ask.headers, b"authorization")
    if len(values) != 1:
        return {}
    return dict(_PART.findall(values[0].decode("latin-1")))


def _values(headers: Headers, wanted: bytes) -> list[bytes]:
    return [value for name, value in headers if name.lower() == wanted]


def _canonical_query(query: str) -> str:
    pairs = (part.partition("=") for part in query.split("&") if part)
    return "&".join(f"{name}={value}" for name, value in sorted((n, v) for n, _, v in pairs))


def _seconds(stamp: str) -> float:
    try:
        return calendar.timegm(time.strptime(stamp, "%Y%m%dT%H%M%SZ"))
    except ValueError:
        raise _refused("its date is none") from None


def _refused(why: str) -> Unauthenticated:
    return Unauthenticated(
        f"The AWS signature of this request is not taken: {why}.", detail=f"signature: {why}"
    )
