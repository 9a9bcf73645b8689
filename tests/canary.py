"""How a secret may look where nobody expects it: the forms in which it is searched for."""

from __future__ import annotations

import base64
import functools
import gzip
import zlib
from collections.abc import Iterable
from pathlib import Path


@functools.cache
def forms(secret: str) -> tuple[bytes, ...]:
    """The secret in plain, base64 (at each alignment, both alphabets), hex, percent and UTF-16."""
    plain = secret.encode()
    found = [
        plain,
        plain[::-1],
        plain.hex().encode(),
        plain.hex().upper().encode(),
        "".join(f"%{byte:02x}" for byte in plain).encode(),
        "".join(f"%{byte:02X}" for byte in plain).encode(),
        secret.encode("utf-16-le"),
    ]
    for pad in range(3):
        # only the characters that no neighbour can change
        text = base64.b64encode(b"\0" * pad + plain)[(pad * 8 + 5) // 6 :]
        sure = (len(plain) * 8 - (-pad * 8) % 6) // 6
        found += [text[:sure], text[:sure].replace(b"+", b"-").replace(b"/", b"_")]
    return tuple(dict.fromkeys(found))


def find(haystack: bytes, secrets: Iterable[str]) -> list[str]:
    """The secrets that stand in the bytes in any form, or in what they decompress to."""
    texts = [haystack, *_unpacked(haystack)]
    return [
        secret
        for secret in secrets
        if any(form in text for form in forms(secret) for text in texts)
    ]


def find_in_folder(folder: Path, secrets: Iterable[str]) -> list[str]:
    """`FILE: SECRET` for each secret in the name or the content of a file below the folder."""
    secrets = tuple(secrets)
    found = []
    for path in sorted(folder.rglob("*")):
        found += [f"name of {path}: {secret}" for secret in find(path.name.encode(), secrets)]
        if path.is_file() and not path.is_symlink():
            found += [f"{path}: {secret}" for secret in find(path.read_bytes(), secrets)]
    return found


def _unpacked(data: bytes) -> list[bytes]:
    try:
        if data[:2] == b"\x1f\x8b":
            return [gzip.decompress(data)]
        if data[:1] == b"\x78":
            return [zlib.decompress(data)]
    except (OSError, EOFError, zlib.error):
        pass
    return []
