"""A service-account file of Google's that is a local key: made for a client, read back from what it
signs.

Google's SDKs sign a JSON Web Token with the file's private key, and either exchange it for an
access token at the file's `token_uri`, which is this proxy, or send it as it is. The file names its
key pair by `Tokens.name_pair`, so that nothing has to be kept here to know it again.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from llamakey_addon.errors import Unauthenticated

if TYPE_CHECKING:
    from llamakey_addon.tokens import Tokens

_EXPONENT: Final = 65537
_BITS: Final = 2048
_SKEW_S: Final = 60
_LIFE_S: Final = 3600
_JWT_BYTES: Final = 8192
_TOKEN_PATHS: Final = ("/token",)


@dataclass(frozen=True, slots=True)
class Signed:
    """A token that was signed with a key file of ours."""

    key_id: str
    audience: str

    @property
    def is_grant(self) -> bool:
        """Whether it is meant to be exchanged for a token, and for nothing else."""
        return self.audience.endswith(_TOKEN_PATHS)


def make(tokens: Tokens, key_id: str, *, token_uri: str, project: str) -> dict[str, str]:
    """A new file's content. Takes a moment: it makes a key pair.

    Arguments:
        project: id of the project that the SDK takes where it is told none; "" for none.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    private = rsa.generate_private_key(public_exponent=_EXPONENT, key_size=_BITS)
    pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    content = {
        "type": "service_account",
        "project_id": project,
        "private_key_id": tokens.name_pair(key_id, private.public_key().public_numbers().n),
        "private_key": pem.decode("ascii"),
        "client_email": email(key_id),
        "client_id": key_id,
        "token_uri": token_uri,
        "universe_domain": "googleapis.com",
    }
    return {name: value for name, value in content.items() if value}


def email(key_id: str) -> str:
    """The account's name in a key file."""
    return f"{key_id}@llamakey.invalid"


def looks_signed(text: str) -> bool:
    """Whether `text` has the form of a JSON Web Token."""
    return text.startswith("eyJ") and text.count(".") == 2


def read(text: str, tokens: Tokens, now_s: float) -> Signed:
    """What a key file of ours has signed.

    Raises Unauthenticated: it is anything else, or not of now.
    """
    if len(text) > _JWT_BYTES:
        raise _refused("it is longer than any")
    signed, _, signature = text.rpartition(".")
    head, _, body = signed.partition(".")
    header, claims = _object(head), _object(body)
    # The one kind that Google's SDKs make: a token must not choose how it is checked.
    if header.get("alg") != "RS256":
        raise _refused("it is not signed by RS256")
    pair = tokens.read_pair(str(header.get("kid")))
    if pair is None:
        raise _refused("it was not signed with a key file that this proxy has handed out")
    key_id, modulus = pair
    _verify(signed.encode("ascii"), _bytes(signature), modulus)
    issuer, audience = claims.get("iss"), claims.get("aud")
    if issuer != email(key_id) or claims.get("sub", issuer) != issuer:
        raise _refused("its issuer is another than its key file's")
    begins, ends = claims.get("iat"), claims.get("exp")
    if (
        not isinstance(begins, int)
        or not isinstance(ends, int)
        or ends - begins > _LIFE_S + _SKEW_S
    ):
        raise _refused("it is good for longer than an hour")
    if begins > now_s + _SKEW_S or ends < now_s - _SKEW_S:
        raise _refused("it has ended, or begins later: see to the clocks of client and proxy")
    return Signed(key_id, audience if isinstance(audience, str) else "")


def _verify(signed: bytes, signature: bytes, modulus: int) -> None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    public = rsa.RSAPublicNumbers(_EXPONENT, modulus).public_key()
    try:
        public.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        raise _refused("its signature does not fit") from None


def _object(part: str) -> dict[str, Any]:
    try:
        value = json.loads(_bytes(part))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise _refused("it is damaged")
    return value


def _bytes(part: str) -> bytes:
    try:
        return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise _refused("it is damaged") from None


def _refused(why: str) -> Unauthenticated:
    return Unauthenticated(
        f"The signed token in this request is not taken: {why}. Use the key file that the proxy's "
        "owner gave you (`lmk keys new NAME --vertex-file FILE` makes one).",
        detail=f"signed token: {why}",
    )
