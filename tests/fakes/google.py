"""Google's side of service accounts: an account with its key pair, and a server of tokens that
verifies what was signed with it.

https://developers.google.com/identity/protocols/oauth2/service-account (the JWT's header and
claims, the grant, its errors).
"""

from __future__ import annotations

import base64
import json
import time
from functools import cache
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

EMAIL = "owner@project-of-the-owner.iam.gserviceaccount.com"
PROJECT = "project-of-the-owner"
AUDIENCES = ("https://oauth2.googleapis.com/token",)
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


@cache
def private_key() -> rsa.RSAPrivateKey:
    """The account's, one a process."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def canary() -> str:
    """A line of the private key, which may stand in nobody's logs."""
    return account("")["private_key"].splitlines()[5]


def account(token_uri: str) -> dict[str, str]:
    """The account's file, as Google Cloud's console gives it."""
    pem = private_key().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return {
        "type": "service_account",
        "project_id": PROJECT,
        "private_key_id": "fake-key-1",
        "private_key": pem.decode(),
        "client_email": EMAIL,
        "client_id": "1234567890",
        "token_uri": token_uri,
        "universe_domain": "googleapis.com",
    }


def wrong_with(assertion: str, token_uri: str) -> str:
    """What is wrong with an assertion, or ""."""
    signed, _, signature = assertion.rpartition(".")
    head, _, body = signed.partition(".")
    try:
        header, claims = _object(head), _object(body)
        private_key().public_key().verify(
            _bytes(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256()
        )
    except (ValueError, InvalidSignature):
        return "Invalid JWT Signature."
    now = time.time()
    if header.get("alg") != "RS256" or header.get("kid") != "fake-key-1":
        return "Invalid JWT header."
    if claims.get("iss") != EMAIL or claims.get("aud") not in (*AUDIENCES, token_uri):
        return "Invalid issuer or audience."
    if not claims["iat"] - 60 <= now <= claims["exp"] or claims["exp"] - claims["iat"] > 3600:
        return "Token must be a short-lived token (60 minutes) and in a reasonable timeframe."
    return "" if claims.get("scope") == SCOPE else "Empty or missing scope not allowed."


def _object(part: str) -> dict[str, Any]:
    value = json.loads(_bytes(part))
    if not isinstance(value, dict):
        raise ValueError(part)
    return value


def _bytes(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
