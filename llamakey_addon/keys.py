"""Keys: the real ones, which nobody may see, and the local ones, which the team holds.

A real key lives in a `Secret`, which says what it is without saying it, and gives its value only
for a host that it is bound to. It is named in config.yaml by a reference (`env:`, `file:`, `cmd:`,
`keyring:`) that `read_reference` follows.

A local key looks like `sk-lmk-<id>-<secret><checksum>`. The id is public and finds the key in the
store; the store keeps a hash of the whole, so that nobody who reads the store can use a key. A
random secret of 256 bits needs no slow hash.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import secrets
import shlex
import signal
import string
import subprocess
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, NoReturn, Self

from llamakey_addon.errors import LlamaKeyError
from llamakey_addon.hosts import fits

# --- real keys ------------------------------------------------------------------------------------


class SecretMisuse(LlamaKeyError):
    """A real key was asked for a host that it is not bound to, or was about to be copied out."""


class KeyUnavailable(LlamaKeyError):
    """A key reference leads nowhere. The message names the remedy, and nothing of any key."""


class Secret:
    """A real key, bound to the hosts that may have it.

    Its text forms are masked, it can't be pickled, and two secrets are equal only if they are the
    same object: nothing learns a key by comparing.

    Arguments:
        value: the key, visible ASCII.
        hosts: host names, without port, to which it may be sent; or globs of them (`hosts.py`).
        source: where it came from, for people, e.g. `env:OPENAI_API_KEY`.
    """

    __slots__ = ("_hosts", "_source", "_value")
    _hosts: frozenset[str]
    _source: str
    _value: bytes

    def __init__(self, value: str, *, hosts: frozenset[str], source: str) -> None:
        # Assigned through object: __setattr__ below refuses everything, so that a key can't be
        # rebound to another host later.
        object.__setattr__(self, "_value", value.encode("ascii"))
        object.__setattr__(self, "_hosts", frozenset(host.lower() for host in hosts))
        object.__setattr__(self, "_source", source)

    def reveal(self, host: str) -> bytes:
        """The key itself, for a request to `host`. Raises SecretMisuse for any other host."""
        host = host.lower()
        if host not in self._hosts and not any(
            "*" in bound and fits(bound, host) for bound in self._hosts
        ):
            bound = ", ".join(sorted(self._hosts)) or "no host"
            raise SecretMisuse(
                f"The key from {self._source} is bound to {bound} and was asked for {host}. "
                "Set the provider's `upstream` in config.yaml to use it there."
            )
        return self._value

    @property
    def hosts(self) -> frozenset[str]:
        return self._hosts

    @property
    def source(self) -> str:
        return self._source

    @property
    def masked(self) -> str:
        """Its ends, enough to tell keys apart: at most a quarter of it, nothing of a short one."""
        text = self._value.decode("ascii")
        shown = min(4, len(text) // 8) if len(text) >= 16 else 0
        return f"{text[:shown]}…{text[len(text) - shown :]}"

    def __repr__(self) -> str:
        return f"Secret({self.masked} from {self._source})"

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise SecretMisuse("A Secret doesn't change. Make a new one.")

    def __delattr__(self, name: str) -> NoReturn:
        raise SecretMisuse("A Secret doesn't change. Make a new one.")

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise SecretMisuse("A Secret can't be written out. Keep the reference to the key instead.")

    # A copy is the thing itself: it never changes, and dataclasses.asdict copies what it meets.
    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self


REFERENCE_KINDS: Final = ("env", "file", "cmd", "keyring")

_COMMAND_TIMEOUT_S = 10.0
_KEY_MAX_BYTES = 65536


def reference_kind(ref: str) -> str:
    """`env`, `file`, `cmd` or `keyring`; "" for a text that is no reference."""
    kind, colon, _ = ref.partition(":")
    return kind if colon and kind in REFERENCE_KINDS else ""


def shown_reference(ref: str) -> str:
    """A reference as people may see it: of a command only the program, for its arguments may
    themselves be secret; of a text that is no reference nothing."""
    kind = reference_kind(ref)
    if not kind:
        return "a key in clear"
    if kind == "cmd":
        program, _, rest = ref.removeprefix("cmd:").strip().partition(" ")
        return f"cmd:{Path(program).name}{' …' if rest else ''}"
    return ref


def read_reference(ref: str, environ: Mapping[str, str], base: Path) -> str:
    """The value that a reference stands for, stripped of surrounding whitespace; never empty.

    Arguments:
        ref: `env:NAME`, `file:PATH`, `cmd:COMMAND` or `keyring:SERVICE/USER`.
        environ: where `env:` looks, and the environment of `cmd:`.
        base: folder to which `file:` is relative, and in which `cmd:` runs.

    Raises KeyUnavailable.
    """
    kind = reference_kind(ref)
    rest = ref.partition(":")[2].strip()
    if kind and not rest:
        raise KeyUnavailable(f"`{kind}:` names nothing: {_REFERENCE_HELP[kind]}")
    match kind:
        case "env":
            value = environ.get(rest, "").strip()
            if not value:
                raise KeyUnavailable(f"set {rest} in the environment of the proxy")
        case "file":
            value = _read_file((base / Path(rest).expanduser()), ref)
        case "cmd":
            value = _read_command(rest, ref, environ, base)
        case "keyring":
            value = _read_keyring(rest)
        case _:
            raise KeyUnavailable(
                "a key is named by env:NAME, file:PATH, cmd:COMMAND or keyring:SERVICE/USER"
            )
    if not value:
        raise KeyUnavailable(f"{shown_reference(ref)} gives an empty key: put the key there")
    return value


_REFERENCE_HELP: Final[Mapping[str, str]] = {
    "env": "write env:OPENAI_API_KEY, say",
    "file": "write file:/run/secrets/openai, say",
    "cmd": "write cmd:op read op://team/openai/key, say",
    "keyring": "write keyring:llamakey/openai, say",
}


def _read_file(path: Path, ref: str) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(_KEY_MAX_BYTES + 1)
    except OSError as error:
        raise KeyUnavailable(
            f"{ref} can't be read ({error.strerror or type(error).__name__}): "
            "put the key there, readable for the proxy's user alone (chmod 600)"
        ) from None
    return _text(raw, ref)


def _read_command(command: str, ref: str, environ: Mapping[str, str], base: Path) -> str:
    shown = shown_reference(ref)
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise KeyUnavailable(
            f"{shown} can't be split into words ({error}): check its quotes"
        ) from None
    if not words:
        raise KeyUnavailable(f"`cmd:` names nothing: {_REFERENCE_HELP['cmd']}")
    try:
        # A session of its own: a prompt on the terminal fails at once instead of hanging the
        # start, and what the command has started can be ended with it.
        process = subprocess.Popen(  # noqa: S603  the owner's own command, without a shell
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(environ),
            cwd=base,
            start_new_session=True,
        )
    except OSError as error:
        raise KeyUnavailable(
            f"{shown} can't be started ({error.strerror or type(error).__name__}): "
            "install the command, or give its full path"
        ) from None
    ends_s = time.monotonic() + _COMMAND_TIMEOUT_S
    # Read beside, up to a bound: neither a silent command nor an endless one holds the start.
    output: list[bytes] = []

    def read(pipe: IO[bytes]) -> None:
        with pipe:
            output.append(pipe.read(_KEY_MAX_BYTES + 1))

    reader = threading.Thread(target=read, args=(process.stdout,), daemon=True)
    reader.start()
    reader.join(_COMMAND_TIMEOUT_S)
    try:
        code = process.wait(max(0.1, ends_s - time.monotonic()))
    except subprocess.TimeoutExpired:
        code = None
    finally:
        if process.poll() is None or reader.is_alive():  # itself, or a child that holds the pipe
            _end(process)
            reader.join(1)
    if output and len(output[0]) > _KEY_MAX_BYTES:
        return _text(output[0], shown)  # raises: too long
    if code is None or not output:
        raise KeyUnavailable(
            f"{shown} did not end within {_COMMAND_TIMEOUT_S:.0f} s: "
            "run it by hand in the proxy's shell and see what it waits for"
        )
    if code != 0:
        raise KeyUnavailable(
            f"{shown} failed with exit code {code}: "
            "run it by hand in the proxy's shell and see what it says"
        )
    return _text(output[0], shown)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the command with what it has started, and leave no zombie."""
    if os.name == "posix":
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except OSError:
            pass  # nobody is left in the group
    else:
        process.kill()
    process.wait()


def _read_keyring(rest: str) -> str:
    service, slash, user = rest.rpartition("/")
    if not (slash and service and user):
        raise KeyUnavailable(f"`keyring:` takes SERVICE/USER: {_REFERENCE_HELP['keyring']}")
    try:
        # An extra, and slow to import: only where a reference asks for it.
        keyring: Any = importlib.import_module("keyring")
    except ImportError:
        raise KeyUnavailable(
            "keyring: references need the keyring package: pip install 'llamakey[keyring]'"
        ) from None
    try:
        value = keyring.get_password(service, user)
    except Exception as error:
        # Backends raise what they like, and none of their words are known to hold no key.
        raise KeyUnavailable(
            f"the system's keyring failed ({type(error).__name__}): unlock it, or use another "
            "kind of reference"
        ) from None
    if not value:
        raise KeyUnavailable(f"the keyring has no such key: keyring set {service} {user}")
    return str(value).strip()


def _text(raw: bytes, shown: str) -> str:
    if len(raw) > _KEY_MAX_BYTES:
        raise KeyUnavailable(f"{shown} gives more than 64 KiB: it must give the key alone")
    try:
        return raw.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise KeyUnavailable(f"{shown} gives no text: it must give the key alone") from None


# --- local keys -----------------------------------------------------------------------------------

MARK: Final = "sk-lmk-"
"""What every local key has in it."""

_ID_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"  # no l, o, 0, 1: an id is read out loud
_SECRET_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_ID_LENGTH = 10
_SECRET_LENGTH = 43  # 62 ** 43 > 2 ** 256
_CHECKSUM_LENGTH = 6  # 62 ** 6 > 2 ** 32

_LOCAL = re.compile(
    # A client's own prefix (`hf_`), then the key.
    rf"(?:[A-Za-z0-9]+[_-])?({MARK}([{_ID_ALPHABET}]{{{_ID_LENGTH}}})"
    rf"-([0-9A-Za-z]{{{_SECRET_LENGTH}}})([0-9A-Za-z]{{{_CHECKSUM_LENGTH}}}))"
)
# Possessive, so that a masked key (an id and an ellipsis) is left as it is. A key that is cut or
# mistyped is masked too: most of it may be right.
_ANY_LOCAL = rf"{MARK}([{_ID_ALPHABET}]{{{_ID_LENGTH}}}-)?+[0-9A-Za-z_-]+"
_ANY_LOCAL_TEXT = re.compile(_ANY_LOCAL)
_ANY_LOCAL_BYTES = re.compile(_ANY_LOCAL.encode())


_TRACE = re.compile(
    (
        rf"{MARK}([{_ID_ALPHABET}]{{{_ID_LENGTH}}})"
        rf"(?:-[0-9A-Za-z]{{{_SECRET_LENGTH + _CHECKSUM_LENGTH}}})?"
    ).encode()
)


@dataclass(frozen=True, slots=True)
class Minted:
    """A new local key. Its text is shown once, and its digest is stored."""

    id: str
    text: str = field(repr=False)
    digest: bytes = field(repr=False)
    """SHA-256 of the text."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """A local key that somebody sent: well-formed, not yet verified."""

    id: str
    digest: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Trace:
    """Where a local key stands in some text, or what is left of one."""

    at: int
    """Offset of its first byte."""
    end: int
    id: str
    parsed: Parsed | None
    """None where the key is masked, cut or mistyped: nobody can call by it."""


def mint() -> Minted:
    """A new local key, from the system's source of randomness."""
    key_id = _random(_ID_ALPHABET, _ID_LENGTH)
    secret = _random(_SECRET_ALPHABET, _SECRET_LENGTH)
    text = f"{MARK}{key_id}-{secret}{_checksum(key_id, secret)}"
    return Minted(key_id, text, _digest(text))


def parse(text: str) -> Parsed | None:
    """The local key that `text` is, with or without a client's own prefix (`hf_sk-lmk-…`).

    None when it is malformed or its checksum is off, so that a mistyped key is told from an unknown
    one. The prefix is no part of the key: both forms have one digest.
    """
    match = _LOCAL.fullmatch(text)
    if match is None:
        return None
    bare, key_id, secret, checksum = match.groups()
    if checksum != _checksum(key_id, secret):
        return None
    return Parsed(key_id, _digest(bare))


def looks_local(text: str) -> bool:
    """Whether a local key stands in `text`, whole or broken."""
    return MARK in text


def traces(data: bytes) -> Iterator[Trace]:
    """Local keys in `data`, told by their checksum, and ids of masked or cut ones."""
    for match in _TRACE.finditer(data):
        parsed = parse(match[0].decode("ascii"))
        end = match.end() if parsed is not None else match.end(1)
        yield Trace(match.start(), end, match[1].decode("ascii"), parsed)


def mask_local(text: str) -> str:
    """A local key as people may see it: `sk-lmk-<id>-…`."""
    match = _LOCAL.fullmatch(text)
    return f"{MARK}{match[2]}-…" if match else f"{MARK}…"


def redact[T: (str, bytes)](text: T) -> T:
    """`text` with every local key in it masked; in bytes by three dots, to keep ASCII as it is."""
    if isinstance(text, str):
        return _ANY_LOCAL_TEXT.sub(lambda found: f"{MARK}{found[1] or ''}…", text)
    return _ANY_LOCAL_BYTES.sub(lambda found: b"sk-lmk-%b..." % (found[1] or b""), text)


def _random(alphabet: str, length: int) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(length))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("ascii")).digest()


def _checksum(key_id: str, secret: str) -> str:
    number = zlib.crc32(f"{key_id}-{secret}".encode("ascii"))
    digits = ""
    for _ in range(_CHECKSUM_LENGTH):
        number, digit = divmod(number, 62)
        digits = _SECRET_ALPHABET[digit] + digits
    return digits
