"""AWS's side of a signature, recomputed by botocore from the bytes that came; and event streams.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
https://docs.aws.amazon.com/AmazonS3/latest/API/RESTSelectObjectAppendix.html (the frames of
`application/vnd.amazon.eventstream`: lengths, CRC of the prelude, headers, payload, CRC)
"""

from __future__ import annotations

import datetime
import hmac
import json
import re
import struct
import zlib

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.fakes.wire import Request

ACCESS_KEY = "AKIAFAKEOWNER0000000"
REGION = "us-east-1"
_HEADER = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request, "
    r"SignedHeaders=([^,]+), Signature=([0-9a-f]{64})"
)


def credential_of(request: Request) -> str:
    """`real` for a signature of the owner's over exactly what came, with what was not signed."""
    values = request.values("authorization")
    if any("sk-lmk-" in value for value in values):
        return "local"
    if not values:
        return "missing"
    match = _HEADER.fullmatch(values[0])
    if match is None or len(values) > 1:
        return "real" if values == [f"Bearer {request.key}"] else "foreign"
    access, date, region, service, names, signature = match.groups()
    stamp = request.header("x-amz-date")
    age = datetime.datetime.now(datetime.UTC) - _time(stamp)
    if access != ACCESS_KEY or not stamp.startswith(date) or abs(age.total_seconds()) > 300:
        return "foreign"
    if (region, service) != (REGION, "bedrock") or "host" not in names.split(";"):
        return "foreign"
    draft = AWSRequest(
        method=request.method,
        url=f"https://{request.header('host')}{request.target}",
        headers={name: ",".join(request.values(name)) for name in names.split(";")},
        data=request.body,
    )
    draft.context["timestamp"] = stamp
    auth = SigV4Auth(Credentials(ACCESS_KEY, request.key), service, region)
    wanted = auth.signature(auth.string_to_sign(draft, auth.canonical_request(draft)), draft)
    return "real" if hmac.compare_digest(wanted, signature) else "foreign"


def _time(stamp: str) -> datetime.datetime:
    try:
        return datetime.datetime.strptime(f"{stamp}+0000", "%Y%m%dT%H%M%SZ%z")
    except ValueError:
        return datetime.datetime.fromtimestamp(0, datetime.UTC)


def event(kind: str, value: object) -> bytes:
    """One frame of an event stream, with JSON as its payload."""
    headers = b"".join(
        _string(name, text)
        for name, text in (
            (":event-type", kind),
            (":content-type", "application/json"),
            (":message-type", "event"),
        )
    )
    payload = json.dumps(value).encode()
    prelude = struct.pack("!II", 16 + len(headers) + len(payload), len(headers))
    front = prelude + struct.pack("!I", zlib.crc32(prelude)) + headers + payload
    return front + struct.pack("!I", zlib.crc32(front))


def _string(name: str, text: str) -> bytes:
    return (
        struct.pack("!B", len(name))
        + name.encode()
        + struct.pack("!BH", 7, len(text))
        + text.encode()
    )
