"""What a credential is made of, where it is no key: the owner's id and secret, a file of Google's,
a profile of AWS's. From the catalogue's `made`, the variables it names and `login` in config.yaml.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from llamakey_addon import keys
from llamakey_addon.journey import Recipe
from llamakey_addon.keys import KeyUnavailable, Secret

if TYPE_CHECKING:
    from llamakey_addon.catalogue.models import Entry, Making

#: Types of Google's credential files, and where each says who is asked for a token.
_GOOGLE_FILES: Final[Mapping[str, str]] = {
    "service_account": "token_uri",
    "external_account": "token_url",
    "authorized_user": "token_uri",
    "impersonated_service_account": "service_account_impersonation_url",
}
_GOOGLE_HOSTS: Final = frozenset(
    {"oauth2.googleapis.com", "sts.googleapis.com", "iamcredentials.googleapis.com"}
)


class LoginUnusable(Exception):
    """What the owner gave can't be used; the message says what to do and shows no secret.

    Arguments:
        name: of the input of `login` that is at fault, or "".
    """

    def __init__(self, message: str, name: str = "") -> None:
        super().__init__(message)
        self.name = name


@dataclass(slots=True)
class Login:
    """One provider's, while settings are loaded."""

    entry: Entry
    making: Making
    given: Mapping[str, str]
    """`login` of config.yaml."""
    environ: Mapping[str, str]
    base: Path
    """Folder to which `file:` is relative."""
    sources: list[str] = field(default_factory=list)

    def wanted(self) -> bool:
        """Whether the owner means this way: said so, or set everything that it needs."""
        if self.given:
            return True
        started = not self.making.starts or any(map(self._set, self.making.starts))
        return started and not self.lacking()

    def lacking(self) -> list[str]:
        """What is still to be set, by the names of variables, else of inputs."""
        lacks = [name for name in self.making.needs if not self._text(name)]
        return [self._variable(name) for name in lacks]

    def value(self, name: str) -> str:
        """What the owner gave for an input, references followed. Raises LoginUnusable."""
        text = self._text(name)
        if not keys.reference_kind(text):
            return text
        try:
            return keys.read_reference(text, self.environ, self.base)
        except KeyUnavailable as error:
            raise LoginUnusable(str(error), name) from None

    def recipe(self, hosts: frozenset[str], ca: str) -> Recipe:
        """Raises LoginUnusable."""
        making = self.making
        if making.package and not _installed(making.package):
            raise LoginUnusable(
                f"{self.entry.name} needs a package that is not installed: "
                f"pip install 'llamakey[{making.extra}]'"
            )
        if lacks := self.lacking():
            raise LoginUnusable(f"set {_and(lacks)}")
        if name := self._clients():
            raise LoginUnusable(
                f"{name} holds a local LlamaKey key, not {self.entry.name}'s: put the real one "
                "there (did you load a client's environment in the server's shell?)"
            )
        names = (*making.inputs, *making.fixed)
        inputs = {name: value for name in names if (value := self.value(name))}
        secret = self._secret(inputs.pop(making.secret)) if making.secret else None
        if making.kind == "google" and secret is not None:
            project = _google_file(secret).get("project_id")
            inputs["project"] = project if isinstance(project, str) else ""
        for name, template in making.fixed.items():
            inputs.setdefault(name, template)
        for name, value in inputs.items():
            if not value.isascii() or not value.isprintable() or len(value) > 2048:
                raise LoginUnusable(f"`{name}` is one line of plain characters", name)
        for variable, value in inputs.items():
            for name in making.fixed:
                inputs[name] = inputs[name].replace(f"{{{variable}}}", value)
        return Recipe(
            kind=making.kind,
            name=self.entry.name,
            setting=f"providers.{self.entry.id}.login",
            source=", ".join(dict.fromkeys(self.sources)) or self._chain(inputs),
            place=making.place,
            hosts=hosts,
            inputs=inputs,
            secret=None if secret is None else _bound(making.kind, secret, inputs),
            signs_body=making.signs_body,
            ca=ca,
        )

    # ── inner ─────────────────────────────────────────────────────────────────────────────────

    def _clients(self) -> str:
        """A variable of a client's environment that is set here to a local key, or ""."""
        names = (name for client in self.entry.clients for name in client.env)
        given = self.given.values()
        return next(
            (n for n in names if keys.looks_local(self._set(n)) and f"env:{n}" not in given), ""
        )

    def _set(self, variable: str) -> str:
        return self.environ.get(variable, "").strip()

    def _text(self, name: str) -> str:
        """An input as written: config.yaml's, else of the first variable that is set."""
        if given := self.given.get(name, "").strip():
            return given
        for variable in self.making.inputs.get(name, ()):
            kind, _, bare = variable.rpartition(":")
            if value := self._set(bare):
                # `file:NAME` is a variable that holds a path
                return f"file:{value}" if kind == "file" else value
        return ""

    def _chain(self, inputs: Mapping[str, str]) -> str:
        """Where credentials come from that something else finds."""
        if profile := inputs.get("profile"):
            return f"the profile {profile}"
        started = next(filter(self._set, self.making.starts), "")
        return f"env:{started}" if started else "the usual places"

    def _variable(self, name: str) -> str:
        variables = self.making.inputs.get(name, ())
        if variables:
            return variables[0].removeprefix("file:")
        return f"providers.{self.entry.id}.login.{name}"

    def _secret(self, value: str) -> str:
        name = self.making.secret
        text = self._text(name)
        if name in self.given:
            kind = keys.reference_kind(text)
            shown = keys.shown_reference(text) if kind else f"login.{name} in config.yaml"
            self.sources.append(shown)
        else:
            self.sources.append(f"env:{self._variable(name)}")
        if keys.looks_local(value):
            raise LoginUnusable(
                f"{self.sources[-1]} holds a local LlamaKey credential, not {self.entry.name}'s: "
                "put the real one there (did you source llamakey_local.env in the server's shell?)",
                name,
            )
        if "@llamakey.invalid" in value:
            raise LoginUnusable(
                f"{self.sources[-1]} is a key file that LlamaKey has made for a client: name "
                f"{self.entry.name}'s own",
                name,
            )
        if len(value) > 65536 or (self.making.kind != "google" and not value.isascii()):
            raise LoginUnusable(f"{self.sources[-1]} holds what can be no secret", name)
        return value


def _bound(kind: str, secret: str, inputs: Mapping[str, str]) -> Secret:
    """The owner's secret, bound to the hosts that make a credential of it. Raises LoginUnusable."""
    if kind == "google":
        file = _google_file(secret)
        host = urlsplit(str(file.get(_GOOGLE_FILES[file["type"]], ""))).hostname
        # As one line of ASCII, which JSON always can be.
        return Secret(
            json.dumps(file),
            hosts=_GOOGLE_HOSTS | ({host} if host else set()),
            source="Google's credentials",
        )
    host = urlsplit(inputs["token_url"]).hostname or ""
    if any(not "\x21" <= char <= "\x7e" for char in secret):
        raise LoginUnusable("the secret holds a space or a line break: copy it again, alone")
    return Secret(secret, hosts=frozenset({host}), source=host)


def _google_file(text: str) -> dict[str, Any]:
    """What a credentials file of Google's says. Raises LoginUnusable."""
    try:
        file: Any = json.loads(text)
    except ValueError:
        file = None
    if not isinstance(file, dict) or file.get("type") not in _GOOGLE_FILES:
        raise LoginUnusable(
            "this is no credentials file of Google's: name the JSON file of a service account or "
            "of a workload identity, as Google Cloud's console gives it",
            "credentials",
        )
    return file


def _installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # its parent
        return False


def _and(names: list[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
