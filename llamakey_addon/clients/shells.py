"""A client's environment as a shell, a file or a program reads it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Literal, get_args
from urllib.parse import urlsplit

from llamakey_addon.clients.environment import Line, environment

if TYPE_CHECKING:
    from llamakey_addon.journey import Provider

__all__ = ["SHELLS", "Shell", "env_file", "render"]

type Shell = Literal["bash", "fish", "powershell", "dotenv", "json"]
SHELLS: tuple[Shell, ...] = get_args(Shell.__value__)

_LOOPBACK = ("localhost", "127.0.0.1")
_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,=-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


def render(shell: Shell, lines: Iterable[Line]) -> str:
    """The lines in a shell's own words, each ended by a newline.

    A comment stands before the variables that it is about. `json` is one object of the variables,
    without comments. A variable with an empty value is taken out where a shell can do so.
    """
    if shell == "json":
        return (
            json.dumps({line.variable: line.value for line in lines if line.variable}, indent=2)
            + "\n"
        )
    assign = _ASSIGN[shell]
    out: list[str] = []
    last = ""
    for line in lines:
        if line.comment and line.comment != last:
            out.append(_comment(line.comment))
        last = line.comment
        if line.variable:
            out.append(assign(line.variable, line.value))
    return "".join(f"{line}\n" for line in out)


def env_file(
    providers: Iterable[Provider],
    proxy_url: str,
    key: str,
    *,
    name: str = "",
    only: Sequence[str] = (),
    shell: Shell = "bash",
) -> str:
    """A whole file: what it is and how it is used, the variables, and what to write in code.

    Arguments are those of `environment`; `name` is the local key's. Raises as `environment` does.
    """
    lines = environment(providers, proxy_url, key, only)
    if shell == "json":
        return render(shell, lines)
    variables = [line for line in lines if line.variable]
    hints = [line.comment for line in lines if not line.variable]
    whose = f", with the local key {name!r}" if name else ""
    head = [
        f"LlamaKey: sends LLM SDKs to {proxy_url}{whose}.",
        f"{_USE[shell]} It holds a key: share it with nobody. `lmk env` prints it anew.",
        *_no_proxy(shell, proxy_url),
    ]
    if hints:
        head += ["", "Not everything can be set here:", *(f"- {hint}" for hint in hints)]
    return "".join(f"{_comment(text)}\n" for text in head) + "\n" + render(shell, variables)


def _no_proxy(shell: Shell, proxy_url: str) -> list[str]:
    """Where HTTP_PROXY is set, SDKs send calls to it that are meant for us."""
    host = urlsplit(proxy_url).hostname or ""
    hosts = _LOOPBACK if host in (*_LOOPBACK, "::1") else (host,)
    value = ",".join(hosts)
    both = "; ".join(_ASSIGN[shell](name, value) for name in ("NO_PROXY", "no_proxy"))
    return [f"Where HTTP_PROXY is set, add {value} to NO_PROXY: {both}"]


def _comment(text: str) -> str:
    return f"# {_CONTROL.sub(' ', text)}".rstrip()


def _bash(name: str, value: str) -> str:
    if not value:
        return f"unset {name}"
    return f"export {name}={shlex.quote(value)}"


def _fish(name: str, value: str) -> str:
    if not value:
        return f"set -e {name}"
    quoted = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"set -gx {name} '{quoted}'"


def _powershell(name: str, value: str) -> str:
    if not value:
        return f"Remove-Item Env:{name} -ErrorAction SilentlyContinue"
    # PowerShell takes typographic quotes for quotes, too.
    quoted = re.sub("(['\u2018\u2019\u201a\u201b])", r"\1\1", value)
    return f"$env:{name} = '{quoted}'"


def _dotenv(name: str, value: str) -> str:
    # Some readers (docker --env-file) take quotes literally: none where none are needed.
    if not value or _PLAIN.fullmatch(value):
        return f"{name}={value}"
    quoted = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    return f'{name}="{quoted}"'.replace("\n", "\\n")


_ASSIGN: dict[str, Callable[[str, str], str]] = {
    "bash": _bash,
    "fish": _fish,
    "powershell": _powershell,
    "dotenv": _dotenv,
}
_USE: dict[str, str] = {
    "bash": "Load it with `source FILE`.",
    "fish": "Load it with `source FILE`.",
    "powershell": "Load it with `. ./FILE.ps1`.",
    "dotenv": "Give it to a program that reads dotenv files, e.g. `docker run --env-file FILE`.",
}
