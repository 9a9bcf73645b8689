"""What stands for a local key for a while: short-lived tokens, and key files with a key pair.

Some SDKs insist on a token that somebody issues, or on signing with a private key. Both are derived
from a local key, and end with it: each use looks the key up, so that a revocation counts at once.

    token     `sk-lmk-<id>-t<end>_<seal>`: the key's id, one provider, and when it ends
    ticket    `sk-lmk-<id>-u<end>_<seal>`: the same, for one address alone
    key file  an RSA key pair, whose public half is named and sealed in the file's key id

Seals are HMACs by a secret of this installation's, `token.secret` in the data folder. It is not in
the store: who reads the store, or a backup of it, can make neither. Nothing is kept of what was
made. Whoever reads that file can make both, so it is 0600, as the store itself is.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from llamakey_addon import keys
from llamakey_addon.errors import NotReady

FILE_NAME: Final = "token.secret"
LIVES_S: Final = 1800
"""How long a token is good."""

_SECRET_BYTES: Final = 32
_MODULUS_BYTES: Final = 256
_TOKEN = re.compile(rf"{keys.MARK}([a-z0-9]+)-t([0-9a-f]{{8}})_([0-9A-Za-z_-]{{43}})")
_TICKET = re.compile(rf"{keys.MARK}([a-z0-9]+)-u([0-9a-f]{{8}})_([0-9A-Za-z_-]{{43}})")
# One each: an expression that begins with a text is looked for by it, many times as fast.
_TOKEN_TRACE = re.compile(
    rf"{keys.MARK}([a-z0-9]+)-[tu]([0-9a-f]{{8}})_[0-9A-Za-z_-]{{43}}".encode()
)
_KID_TRACE = re.compile(rb"lmk\.([a-z0-9]+)\.[0-9A-Za-z_-]{342}\.[0-9A-Za-z_-]{43}")
_KID = re.compile(r"lmk\.([a-z0-9]+)\.([0-9A-Za-z_-]{342})\.([0-9A-Za-z_-]{43})")


@dataclass(frozen=True, slots=True)
class Token:
    """A token or ticket that this installation has issued; whether its key is valid is another
    question."""

    key_id: str
    ends_s: float


@dataclass(frozen=True, slots=True)
class Trace:
    """Where a token, or the name of a key file's pair, stands in some text."""

    at: int
    end: int
    key_id: str
    ends_s: float | None
    """Of a token; a key file has no end of its own."""


def traces(data: bytes) -> Iterator[Trace]:
    """What was derived from local keys, by its form: tokens first, nothing is proved."""
    for match in _TOKEN_TRACE.finditer(data):
        ends_s = float(int(match[2], 16))
        yield Trace(match.start(), match.end(), match[1].decode("ascii"), ends_s)
    for match in _KID_TRACE.finditer(data):
        yield Trace(match.start(), match.end(), match[1].decode("ascii"), None)


class Tokens:
    """Issues and reads tokens. The secret is made when it is first needed.

    Arguments:
        folder: the data folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME
        self._secret = b""

    def issue(self, key_id: str, provider: str, now_s: float) -> str:
        """A token for one provider, good for LIVES_S. Raises NotReady."""
        ends = f"{int(now_s) + LIVES_S:08x}"
        return f"{keys.MARK}{key_id}-t{ends}_{self._seal('token', key_id, provider, ends)}"

    def read(self, text: str, provider: str) -> Token | None:
        """The token that `text` is, also one that has ended; None for anything else."""
        match = _TOKEN.fullmatch(text)
        if match is None:
            return None
        key_id, ends, seal = match.groups()
        wanted = self._seal("token", key_id, provider, ends)
        return Token(key_id, int(ends, 16)) if hmac.compare_digest(seal, wanted) else None

    def ticket(self, key_id: str, provider: str, target: str, ends_s: float) -> str:
        """A ticket for one address of a provider: `target` is what follows its prefix. Raises
        NotReady."""
        ends = f"{int(ends_s):08x}"
        seal = self._seal("ticket", key_id, provider, ends, target)
        return f"{keys.MARK}{key_id}-u{ends}_{seal}"

    def read_ticket(self, text: str, provider: str, target: str) -> Token | None:
        """The ticket that `text` is, also one that has ended; None for anything else."""
        match = _TICKET.fullmatch(text)
        if match is None:
            return None
        key_id, ends, seal = match.groups()
        wanted = self._seal("ticket", key_id, provider, ends, target)
        return Token(key_id, int(ends, 16)) if hmac.compare_digest(seal, wanted) else None

    def name_pair(self, key_id: str, modulus: int) -> str:
        """The key id of a key file: whose it is, its public half, and the seal on both."""
        public = _text(modulus.to_bytes(_MODULUS_BYTES, "big"))
        return f"lmk.{key_id}.{public}.{self._seal('pair', key_id, public)}"

    def read_pair(self, kid: str) -> tuple[str, int] | None:
        """Id of the local key, and RSA modulus of a key file; None for a name that is not ours."""
        match = _KID.fullmatch(kid)
        if match is None:
            return None
        key_id, public, seal = match.groups()
        if not hmac.compare_digest(seal, self._seal("pair", key_id, public)):
            return None
        return key_id, int.from_bytes(base64.urlsafe_b64decode(public + "=="), "big")

    def _seal(self, *parts: str) -> str:
        if not self._secret:
            self._secret = self._read()
        return _text(hmac.digest(self._secret, "\0".join(parts).encode(), hashlib.sha256))

    def _read(self) -> bytes:
        try:
            try:
                secret = self._path.read_bytes()
            except FileNotFoundError:
                _write_new(self._path, secrets.token_bytes(_SECRET_BYTES))
                secret = self._path.read_bytes()  # another process may have been first
        except OSError as error:
            raise NotReady(
                "The proxy can't issue or read tokens at the moment. Tell its owner.",
                detail=f"{self._path}: {error.strerror or type(error).__name__}",
            ) from None
        if len(secret) != _SECRET_BYTES:
            raise NotReady(
                "The proxy can't issue or read tokens at the moment. Tell its owner.",
                detail=f"{self._path} is damaged: remove it, and hand out new key files",
            )
        return secret


def looks_issued(text: str) -> bool:
    """Whether `text` has the form of a token."""
    return _TOKEN.fullmatch(text) is not None


def _write_new(path: Path, content: bytes) -> None:
    """A private file, whole from its first moment; one that is there already is left alone."""
    descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:  # mkstemp makes it 0600
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(beside, path)
        except FileExistsError:
            pass
    finally:
        os.unlink(beside)


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")
