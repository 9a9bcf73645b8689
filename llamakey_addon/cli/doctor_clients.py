"""Each client that is installed here makes one small call, and the proxy tells whether it came by.

That a call worked proves nothing: it may have gone past the proxy. So each bears a mark of its own,
and the proxy is asked, with the same local key, whether it has seen it.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlencode, urlsplit

from llamakey_addon.clients import agents, probing, settings_files
from llamakey_addon.clients.probing import Probe
from llamakey_addon.errors import LlamaKeyError
from llamakey_addon.journey import Provider
from llamakey_addon.keys import redact
from llamakey_addon.trust import trust

type State = Literal["through", "refused", "around", "silent", "failed", "untested"]

_AT_ONCE: Final = 3
_CALL_S: Final = 60.0
_VERSION_S: Final = 30.0
_ANSWER_S: Final = 30
_RESULT: Final = "LLAMAKEY-PROBE "
_VERSION: Final = re.compile(r"\d+\.\d[\w.+-]*")
_REQUEST: Final = re.compile(r"lmk_[0-9a-f]{16}")
_TOLD_MAX: Final = 300

GOOD: Final = frozenset[State]({"through", "untested"})


class NoProxy(LlamaKeyError):
    """The proxy does not answer, or not to this key."""


@dataclass(frozen=True, slots=True)
class Place:
    """The proxy, as a client with a local key reaches it."""

    url: str
    key: str = field(repr=False)
    ca: str = ""
    """PEM file to trust beside the system's roots, or ""."""

    def me(self, mark: str = "") -> dict[str, Any]:
        """What it says of the key, and of the requests with this mark. Raises NoProxy."""
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        if parts.scheme == "https":
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, parts.port or 443, timeout=_ANSWER_S, context=trust(self.ca)
            )
        else:
            connection = http.client.HTTPConnection(host, parts.port or 80, timeout=_ANSWER_S)
        target = f"{parts.path.rstrip('/')}/_llamakey/me"
        if mark:
            target += f"?{urlencode({'mark': mark})}"
        try:
            connection.request("GET", target, headers={"Authorization": f"Bearer {self.key}"})
            answer = connection.getresponse()
            text = answer.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            what = getattr(error, "strerror", None) or type(error).__name__
            raise NoProxy(
                f"{self.url} does not answer as a LlamaKey ({what}): start lmk there, or name the "
                "proxy by --url."
            ) from None
        finally:
            connection.close()
        if answer.status != 200 and _REQUEST.search(text):
            raise NoProxy(f"{self.url} refuses the local key: {_short(text)}")
        try:
            return dict(json.loads(text))
        except ValueError:
            raise NoProxy(f"{self.url} is no LlamaKey: name the proxy by --url.") from None


@dataclass(frozen=True, slots=True)
class Environs:
    """What a client's process has, as `lmk run` gives it."""

    front: Mapping[str, str]
    second: Mapping[str, str] | None = None
    """The same with what leads to the second door; None where none is known here."""


@dataclass(frozen=True, slots=True)
class Installed:
    """A client that is here."""

    probe: Probe
    version: str
    program: str
    """What runs it: an interpreter, or the program itself."""
    root: str = ""
    """Of a package for Node: the folder that has it in its node_modules."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one client's call."""

    installed: Installed
    state: State
    told: str = ""
    """What is to be set otherwise, or what happened."""
    door: str = ""
    """How it went: `front` by variables, `front, in code` by an address in the program, `second` by
    CONNECT."""
    request: str = ""
    """The id that the proxy has seen it by."""
    strays: tuple[str, ...] = ()
    """Hosts that it wanted to connect to, and was not let."""


# --- what is here ---------------------------------------------------------------------------------


def find(
    probes: Iterable[Probe],
    environ: Mapping[str, str],
    environ_of: Callable[[Probe], Mapping[str, str]],
) -> list[Installed]:
    """The clients that are installed: for the Python on PATH, for Node in ./node_modules or
    globally, and programs on PATH.

    Arguments:
        environ_of: what a program is asked for its version with. Some write files at once.
    """
    probes = list(probes)
    path = environ.get("PATH")
    python = shutil.which("python", path=path) or shutil.which("python3", path=path)
    versions = _python_versions(python, probes, environ) if python else {}
    node = shutil.which("node", path=path)
    roots = _node_roots(environ) if node and _any(probes, "node") else []
    found: list[Installed] = []
    for probe in probes:
        if probe.language == "python" and python and probe.package in versions:
            found.append(Installed(probe, versions[probe.package], python))
        elif probe.language == "node" and node:
            for root in roots:
                if version := _node_version(root / "node_modules" / probe.package):
                    found.append(Installed(probe, version, node, str(root)))
                    break
        elif probe.language == "command":
            beside = str(Path("node_modules", ".bin").absolute())
            if program := shutil.which(probe.package, path=f"{path}{os.pathsep}{beside}"):
                version = _program_version(program, environ_of(probe))
                found.append(Installed(probe, version, program))
    return found


def _any(probes: Iterable[Probe], language: str) -> bool:
    return any(probe.language == language for probe in probes)


def _python_versions(
    python: str, probes: Iterable[Probe], environ: Mapping[str, str]
) -> dict[str, str]:
    packages = [probe.package for probe in probes if probe.language == "python"]
    if not packages:
        return {}
    wish = {"versions": packages}
    done = _run([python, "-c", probing.program("python")], environ, wish, _VERSION_S)
    return {} if done.result is None else dict(done.result)


def _node_roots(environ: Mapping[str, str]) -> list[Path]:
    roots = [Path().absolute()]
    roots += [Path(part).parent for part in environ.get("NODE_PATH", "").split(os.pathsep) if part]
    npm = shutil.which("npm", path=environ.get("PATH"))
    if npm:
        done = _run([npm, "root", "--global"], environ, None, _VERSION_S)
        if done.code == 0 and done.text.strip():
            roots.append(Path(done.text.strip().splitlines()[-1]).parent)
    return roots


def _node_version(folder: Path) -> str:
    try:
        return str(json.loads((folder / "package.json").read_text("utf-8"))["version"])
    except (OSError, ValueError, KeyError):
        return ""


def _program_version(program: str, environ: Mapping[str, str]) -> str:
    match = _VERSION.search(_run([program, "--version"], environ, None, _VERSION_S).text)
    return match[0] if match else "?"


# --- one call -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Done:
    """A process that has ended."""

    code: int
    text: str
    """What it printed, both outputs; with a result, the error of that."""
    result: dict[str, Any] | None = None


def _run(
    command: Sequence[str],
    environ: Mapping[str, str],
    wish: Mapping[str, Any] | None,
    limit_s: float,
) -> _Done:
    """Run a command in an empty folder. A wish is for a prelude, whose result comes back."""
    env = dict(environ)
    if wish is not None:
        env["LLAMAKEY_PROBE"] = json.dumps(wish)
    with tempfile.TemporaryDirectory(
        prefix="llamakey-doctor-", ignore_cleanup_errors=True
    ) as folder:
        try:
            process = subprocess.Popen(  # noqa: S603  programs of the user's own
                list(command),
                env=env,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT if wish is None else subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            return _Done(-1, error.strerror or type(error).__name__)
        with process:
            try:
                output, errors = process.communicate(timeout=limit_s)
            except subprocess.TimeoutExpired:
                _end(process)
                return _Done(-1, f"no end within {limit_s:.0f} s")
            except BaseException:
                _end(process)
                raise
    out = output.decode("utf-8", "replace")
    if wish is None:
        return _Done(process.returncode, out)
    lines = [line for line in out.splitlines() if line.startswith(_RESULT)]
    if not lines:
        return _Done(process.returncode, (errors or b"").decode("utf-8", "replace") or out)
    result = json.loads(lines[-1].removeprefix(_RESULT))
    return _Done(process.returncode, str(result.get("text", "")), result)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill it, and what it has started: that may hold its output open."""
    if os.name == "posix":
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()


def test(
    installed: Sequence[Installed],
    environs: Sequence[Environs],
    providers: Mapping[str, Provider],
    place: Place,
    door_url: str,
) -> list[Verdict]:
    """Let each make its call, a few at once; in their order. Raises NoProxy.

    A client that no variable redirects tries the second door, and where that is not open, or does
    not take it, the address written in its code.

    Arguments:
        providers: by id, ready or not as far as is known here.
        door_url: of the second door; "" where none is known here.
    """
    tag_header = str(place.me().get("tag_header", "X-LlamaKey-Tag"))

    def one(each: Installed, environs: Environs) -> Verdict:
        provider = providers.get(each.probe.provider)
        if provider is None or not provider.ready:
            name = provider.entry.name if provider else each.probe.provider
            return Verdict(each, "untested", f"{name} is not served here, as far as is known")
        if each.probe.no_call:
            return Verdict(each, "untested", remedy(each.probe, provider, place))
        caller = _Caller(each, provider, place, tag_header)
        if each.probe.in_code and environs.second is not None:
            verdict = caller.call(environs.second, "second", door_url)
            if verdict.state in ("through", "refused"):
                return verdict
        return caller.call(environs.front, "front, in code" if each.probe.in_code else "front")

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(one, installed, environs))


@dataclass(frozen=True, slots=True)
class _Caller:
    """One client, and all that its calls need."""

    installed: Installed
    provider: Provider
    place: Place
    tag_header: str

    def call(self, environ: Mapping[str, str], door: str, door_url: str = "") -> Verdict:
        """Let it make its call, by this door."""
        probe, installed = self.installed.probe, self.installed
        mark = f"doctor-{secrets.token_hex(6)}"
        words = {"{proxy}": self.place.url, "{mark}": mark, "{header}": self.tag_header}
        if probe.language == "command":
            env = {**environ, **agents.filled(probe.env, words)}
            for name, more in probe.merges.items():
                env[name] = _merged(env.get(name, ""), agents.filled(more, words))
            arguments = [agents.filled(word, words) for word in probe.words]
            done = _run([installed.program, *arguments], env, None, _CALL_S)
        else:
            program = probing.program(probe.language)
            option = "-c" if probe.language == "python" else "-e"
            wish = {
                "call": probe.call,
                "base": "" if door_url else agents.filled(probe.in_code, words),
                "headers": {self.tag_header: mark},
                "mark": mark,
                "root": installed.root,
                **_allowed(self.place.url, *filter(None, [door_url])),
            }
            done = _run([installed.program, option, program], environ, wish, _CALL_S)
        strays = tuple(dict.fromkeys((done.result or {}).get("strays", ())))
        seen = self.place.me(mark).get("seen", [])
        if seen:
            told = self._of_seen(seen[-1], door, strays)
            return Verdict(installed, "through", told, door, seen[-1]["id"], strays)
        if (found := _REQUEST.search(done.text)) is not None:
            line = next(line for line in done.text.splitlines() if found[0] in line)
            return Verdict(installed, "refused", _short(line), door, found[0], strays)
        way = remedy(probe, self.provider, self.place)
        if strays:
            told = f"it went to {', '.join(strays)}, past the proxy: {way}"
            return Verdict(installed, "around", told, strays=strays)
        lines = [line for line in done.text.splitlines() if line.strip()] or [""]
        # a traceback of Python's ends with its message, a stack of Node's begins with it
        last = _short(lines[0 if probe.language == "node" else -1])
        if probe.language != "command" and (done.result is None or done.result.get("error")):
            return Verdict(installed, "failed", f"its call could not be made: {last}")
        told = f"no request of it came to the proxy ({last or 'it said nothing'}): {way}"
        return Verdict(installed, "silent", told)

    def _of_seen(self, row: Mapping[str, Any], door: str, strays: Sequence[str]) -> str:
        told = []
        if row.get("status") in (401, 403):
            told.append(
                f"the provider answered {row['status']}: `lmk doctor --keys` on the proxy's "
                "machine tells whether its real key is good"
            )
        if door == "second":
            told.append("start it by `lmk run`, as no variable redirects it")
        elif door != "front":
            way = remedy(self.installed.probe, self.provider, self.place)
            told.append(f"no variable redirects it: {way}, or open the second door")
        if strays:
            told.append(f"it also asked for {', '.join(strays)}, which was not let")
        return "; ".join(told)


def remedy(probe: Probe, provider: Provider, place: Place) -> str:
    """What to set, or to write, so that a client goes by the proxy."""
    for client in provider.entry.clients:
        if probe.language != "command" and re.search(
            rf"\b{re.escape(probe.package)}\b", client.sdk
        ):
            words = {"{proxy}": place.url, "{prefix}": provider.prefix}
            if client.door == "none":
                return f"no door takes it: {agents.filled(client.why, words)}"
            if client.code:
                return f"write {agents.filled(client.code, words)}"
    if probe.language == "command":
        agent = agents.of_command(probe.package)
        note = f" {agent.note}" if agent is not None and agent.note else ""
        return f"start it by `lmk run -- {probe.package}`; see to settings of its own.{note}"
    names = f" --for {','.join(probe.names)}" if probe.names else ""
    return f"set what `lmk env{names}` prints in its shell, and no base URL in its code"


def _allowed(*urls: str) -> dict[str, Any]:
    """Names and addresses of the proxy and its doors."""
    places: list[tuple[str, int]] = []
    for url in urls:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        places.append((host, port))
        with contextlib.suppress(OSError):  # `Place.me` has told it before
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            places += [(str(address[0]), port) for *_, address in found]
    places = list(dict.fromkeys(places))
    return {"names": [name for name, _ in places], "places": places}


def _merged(text: str, more: Mapping[str, Any]) -> str:
    below = settings_files.read(text or "{}", "json", "a variable")
    return json.dumps(settings_files.over(below, more))


def _short(line: str) -> str:
    """A line of a client's, without keys, on one line and not endless."""
    text = " ".join(redact(line).split())
    return text if len(text) <= _TOLD_MAX else f"{text[: _TOLD_MAX - 1]}…"
