"""AWS's signatures, with botocore as the client that makes them."""

from __future__ import annotations

import calendar
import hashlib
import re
import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from llamakey_addon import signature
from llamakey_addon.errors import Unauthenticated
from llamakey_addon.journey import Ask
from llamakey_addon.keys import mint

MINTED = mint()
KEY, ID = MINTED.text, f"LMK{MINTED.id}"
MODEL = "/bedrock/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Aprofile%2Fx.y/converse"
BODY = b'{"messages": []}'


def signed(
    target: str = MODEL,
    method: str = "POST",
    body: bytes = BODY,
    *,
    credentials: Credentials | None = None,
    headers: dict[str, str] | None = None,
) -> Ask:
    """A request as botocore signs and sends it."""
    draft = AWSRequest(
        method=method,
        url=f"http://localhost:8000{target}",
        headers={"Content-Type": "application/json", **(headers or {})},
        data=body,
    )
    who = credentials or Credentials(ID, KEY, KEY)
    SigV4Auth(who, "bedrock", "eu-west-1").add_auth(draft)
    fields = [("Host", "localhost:8000"), *draft.headers.items()]
    return Ask(
        id="lmk_1",
        time_s=0,
        peer="127.0.0.1",
        method=method,
        target=target,
        headers=tuple((n.encode(), str(v).encode()) for n, v in fields),
        body_length=len(body),
    )


def signed_s(ask: Ask) -> float:
    """When it was signed: some are made long before the test that looks at them."""
    found = re.search(rb"\d{8}T\d{6}Z", ask.target.encode() + b" ".join(v for _, v in ask.headers))
    made = found[0].decode() if found else "20260101T000000Z"
    return datetime.strptime(made, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()


def check(ask: Ask, body: bytes | None = BODY, now_s: float | None = None) -> signature.Claim:
    claim = signature.claim(ask, signed_s(ask) if now_s is None else now_s)
    signature.verify(claim, body)
    return claim


def changed(ask: Ask, name: str, value: str | None) -> Ask:
    """With another header of this name, or none, or one more."""
    wanted = name.lower().encode()
    kept = tuple(pair for pair in ask.headers if pair[0].lower() != wanted)
    more = () if value is None else ((name.encode(), value.encode()),)
    return replace(ask, headers=kept + more)


def value(ask: Ask, name: str) -> str:
    return next(v.decode() for n, v in ask.headers if n.lower() == name.lower().encode())


@pytest.mark.parametrize(
    "ask",
    [
        signed(),
        signed("/bedrock/model/a.b-v1%3A0/invoke"),
        signed("/bedrock-control/foundation-models?byProvider=a%20b&a=&maxResults=3", "GET", b""),
        signed("/bedrock/x?b=2&a=1&b=1", "GET", b""),
        signed(headers={"X-Amz-Meta": "  two   spaces  ", "amz-sdk-request": "attempt=1; max=3"}),
        signed(headers={"X-Amz-Content-SHA256": hashlib.sha256(BODY).hexdigest()}),
        # a tool that knows no session token
        signed(credentials=Credentials(KEY, KEY)),
    ],
)
def test_what_botocore_signs_fits(ask: Ask) -> None:
    body = BODY if ask.method == "POST" else b""
    assert signature.is_signed(ask) and signature.key_in(ask) == KEY
    check(ask, body)


def test_a_hash_in_the_head_is_judged_before_the_body_comes() -> None:
    ask = signed(headers={"X-Amz-Content-SHA256": hashlib.sha256(BODY).hexdigest()})
    claim = check(ask, None)
    with pytest.raises(Unauthenticated, match="another than the one that was signed"):
        signature.verify(claim, BODY + b" ")


@pytest.mark.parametrize(
    "ask",
    [
        replace(signed(), target=MODEL.replace("x.y", "x.z")),
        replace(signed(), target=MODEL.replace("%2F", "%2f")),
        replace(signed(), target=f"{MODEL}?a=b"),
        replace(signed(), method="PUT"),
        changed(signed(), "Host", "elsewhere:8000"),
        changed(signed(), "Content-Type", "text/plain"),
        signed(credentials=Credentials(ID, KEY[:-1], KEY)),
        signed(credentials=Credentials(ID, "", KEY)),
        changed(signed(), "Authorization", value(signed(), "Authorization")[:-4] + "0000"),
    ],
)
def test_what_was_changed_does_not_fit(ask: Ask) -> None:
    with pytest.raises(Unauthenticated, match="does not fit"):
        check(ask)


def test_a_changed_body_does_not_fit() -> None:
    with pytest.raises(Unauthenticated, match="does not fit"):
        check(signed(), BODY + b" ")


def test_clocks_may_be_apart_by_five_minutes() -> None:
    ask = signed()
    now_s = calendar.timegm(time.strptime(value(ask, "X-Amz-Date"), "%Y%m%dT%H%M%SZ"))
    check(ask, now_s=now_s + 299)
    check(ask, now_s=now_s - 299)
    with pytest.raises(Unauthenticated, match=r"301 s ago.*clocks"):
        check(ask, now_s=now_s + 301)
    with pytest.raises(Unauthenticated, match="301 s ahead"):
        check(ask, now_s=now_s - 301)


def without(ask: Ask, name: str) -> Ask:
    """The same, but for a header that is not covered any more; signed anew."""
    value_ = value(ask, "Authorization").replace(f"{name};", "").replace(f";{name},", ",")
    bare = changed(ask, "Authorization", value_)
    claim = signature.Claim(
        bare,
        KEY,
        (value(ask, "X-Amz-Date")[:8], "eu-west-1", "bedrock"),
        value(ask, "X-Amz-Date"),
        tuple(
            name_.encode()
            for name_ in value_.partition("SignedHeaders=")[2].partition(",")[0].split(";")
        ),
        "",
        "",
    )
    fitting = signature.sign(claim, hashlib.sha256(BODY).hexdigest())
    return changed(bare, "Authorization", value_[:-64] + fitting)


@pytest.mark.parametrize("name", ["host", "x-amz-date", "x-amz-security-token"])
def test_what_must_be_covered(name: str) -> None:
    check(without(signed(), "content-type"))
    with pytest.raises(Unauthenticated, match="does not cover"):
        check(without(signed(), name))


@pytest.mark.parametrize(
    ("ask", "why"),
    [
        (changed(signed(), "Authorization", "AWS4-HMAC-SHA256 Credential=x"), "not whole"),
        (changed(signed(), "X-Amz-Date", None), "not whole"),
        (changed(signed(), "X-Amz-Date", "20260101T000000Z"), "its date"),
        (signed(credentials=Credentials("AKIAREAL", KEY, KEY)), "of another key"),
        (
            signed(headers={"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}),
            "does not cover the body",
        ),
    ],
)
def test_what_is_not_whole(ask: Ask, why: str) -> None:
    with pytest.raises(Unauthenticated, match=why):
        check(ask)


def test_a_real_signature_holds_no_local_key() -> None:
    real = signed(credentials=Credentials("AKIAREAL", "secret", "token"))
    assert signature.is_signed(real) and signature.key_in(real) == "token"
    assert signature.key_in(signed(credentials=Credentials("AKIAREAL", "secret"))) == ""


def test_a_call_of_aws_sdks_counts_once() -> None:
    assert signature.counts_once(check(signed(headers={"amz-sdk-invocation-id": "1"})))
    # a client without such an id may rightly ask the same twice within a second
    assert not signature.counts_once(check(signed()))
