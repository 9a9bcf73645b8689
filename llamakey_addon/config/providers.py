"""The providers of this proxy: what the catalogue says, what the owner says, and the real keys.

A provider that lacks something stays in the table, not ready, and its `missing` says what switches
it on; a start never fails for a key. What stands wrong in the file is a fault.

Variables such as OPENAI_BASE_URL are not read: in the proxy's own environment they most often point
at a proxy, and a real key must not follow them.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from llamakey_addon import keys
from llamakey_addon.catalogue import Catalogue
from llamakey_addon.catalogue.models import Credential, Entry, Placement, Slot
from llamakey_addon.config.addresses import AddressError, Ourselves, is_loopback, parse_origin
from llamakey_addon.config.logins import Login, LoginUnusable
from llamakey_addon.config.model import ProviderPart
from llamakey_addon.config.words import nearest
from llamakey_addon.config.yamlfile import Document, hide_keys
from llamakey_addon.errors import Fault
from llamakey_addon.journey import Provider, Recipe, Upstream
from llamakey_addon.keys import KeyUnavailable, Secret

_ID = re.compile(r"[a-z][a-z0-9-]*")
_LABELS = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})*(?<!-)")
_VARIABLE = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)\}?")


@dataclass(slots=True)
class Assembly:
    """Joins one provider after the other, and keeps what was found wrong."""

    catalogue: Catalogue
    document: Document
    environ: Mapping[str, str]
    base: Path
    """Folder to which paths of the file are relative."""
    ourselves: Ourselves
    providers: dict[str, Provider] = field(default_factory=dict)
    """By prefix."""
    faults: list[Fault] = field(default_factory=list)
    warnings: list[Fault] = field(default_factory=list)

    def join(self, parts: Mapping[str, ProviderPart | None]) -> None:
        """Make every provider: the catalogue's in its order, then the owner's own."""
        for entry in self.catalogue.entries.values():
            self._add(entry, parts.get(entry.id) or ProviderPart(), own=False)
        for name, part in parts.items():
            if name not in self.catalogue.entries:
                entry_of_own = self._own_entry(name, part or ProviderPart())
                if entry_of_own is not None:
                    self._add(entry_of_own, part or ProviderPart(), own=True)

    # --- the owner's own --------------------------------------------------------------------------

    def _own_entry(self, name: str, part: ProviderPart) -> Entry | None:
        """A catalogue entry made of what the owner wrote."""
        place = ("providers", name)
        entries = self.catalogue.entries
        if not part.upstream:
            self._fault(
                place,
                f"`{hide_keys(name)}` is no provider of the catalogue."
                f"{nearest(name, entries)} One of your own needs `upstream`, and `like` or "
                "`credential`. `lmk providers` shows all.",
            )
            return None
        if not _ID.fullmatch(name):
            self._fault(place, "a provider's id has lower-case letters, digits and `-`. Rename it.")
            return None
        credential = None
        if part.credential:
            # The client's SDK sends its key as it would to the provider.
            word = part.credential.format.removesuffix("{key}").strip()
            credential = Credential(
                place=Placement(header=part.credential.header, format=part.credential.format),
                accept=(Slot(header=part.credential.header, scheme=word),),
            )
        model = entries.get(part.like) if part.like else None
        if part.like and model is None:
            self._fault(
                (*place, "like"),
                f"`{hide_keys(part.like)}` is no provider of the catalogue."
                f"{nearest(part.like, entries)} `lmk providers` shows all.",
            )
            return None
        if model is not None:
            return model.model_copy(
                update={
                    "id": name,
                    "name": name,
                    "prefix": name,
                    "upstream_vars": {},
                    "key_env": (),
                    "credential": credential or _of_own(model.credential),
                    # One provider alone may own a variable of the clients' by default.
                    "clients": tuple(
                        client.model_copy(update={"default": False, "tools": ()})
                        for client in model.clients
                    ),
                }
            )
        if credential is None:
            self._fault(
                place,
                f"`{name}` does not say where its key goes. Add `like: <provider whose API it "
                "speaks>`, e.g. `like: openai`, or `credential: {header: …, format: …}`.",
            )
            return None
        return Entry(
            id=name,
            name=name,
            docs="https://example.invalid/",
            prefix=name,
            upstream="https://example.invalid",
            key_env=(),
            credential=credential,
            envelope="plain",
        )

    # --- one provider -----------------------------------------------------------------------------

    def _add(self, entry: Entry, part: ProviderPart, *, own: bool) -> None:
        place = ("providers", entry.id)
        prefix = part.prefix or entry.prefix
        if other := self.providers.get(prefix):
            self._fault(
                (*place, "prefix"),
                f"the prefix `{prefix}` is {other.id}'s. Choose another by `prefix`.",
            )
            return
        if not own:
            for name in ("like", "credential"):
                if getattr(part, name) is not None:
                    self._fault(
                        (*place, name),
                        f"`{name}` is for providers of your own; {entry.id}'s is in the catalogue. "
                        "Remove it, or give the provider an id of your own.",
                    )
        login = self._login(entry, part)
        regions = self._regions(entry, part)
        upstream, missing = self._upstream(entry, part, login)
        if upstream is not None and (why := self._unfit(entry, part, upstream)):
            if part.upstream:
                self._fault((*place, "upstream"), f"{why}.")
            upstream, missing = None, why
        secret = recipe = None
        if not part.enabled:
            missing = f"it is switched off: set providers.{entry.id}.enabled to true"
        elif upstream is not None:
            if login is not None:
                recipe, missing = self._recipe(login, part, upstream, regions)
            else:
                secret, missing = self._secret(entry, part, upstream, regions)
        self.providers[prefix] = Provider(
            id=entry.id,
            prefix=prefix,
            entry=entry,
            upstream=upstream,
            secret=secret,
            missing=missing,
            recipe=recipe,
            regions=regions,
            named_hosts=_named_hosts(entry, part),
            metadata=self._metadata(entry, part),
        )

    def _regions(self, entry: Entry, part: ProviderPart) -> dict[str, Upstream]:
        """The upstream of each region; none where the owner has named one for all."""
        place = ("providers", entry.id, "regions")
        if entry.regions is None or part.upstream is not None:
            if part.regions is not None:
                self._fault(place, "regions are nothing of this provider's here. Remove them.")
            return {}
        known = dict.fromkeys((*entry.regions.known, *(part.regions or ())), entry.regions.upstream)
        return {
            name: self._with_ca(entry, part, parse_origin(text.replace("{region}", name)))
            for name, text in (known | entry.regions.special).items()
        }

    def _metadata(self, entry: Entry, part: ProviderPart) -> str:
        if part.metadata is None:
            return ""
        place = ("providers", entry.id, "metadata")
        if not entry.metadata:
            self._fault(place, f"{entry.name} has no metadata server. Remove this.")
        elif other := next((p for p in self.providers.values() if p.metadata), None):
            self._fault(place, f"there is one metadata server, and it is {other.id}'s already.")
        return part.metadata

    def _upstream(
        self, entry: Entry, part: ProviderPart, login: Login | None
    ) -> tuple[Upstream | None, str]:
        """Where requests go, or what is missing."""
        if part.upstream is not None:
            try:
                return self._with_ca(entry, part, parse_origin(part.upstream)), ""
            except AddressError as error:
                self._fault(("providers", entry.id, "upstream"), f"{error}.")
                return None, str(error)
        text = entry.upstream
        for variable, name in entry.upstream_vars.items():
            value = self._part_of_host(entry, part, variable, name)
            if not value:
                has_key = (
                    login or part.key or any(self.environ.get(n, "").strip() for n in entry.key_env)
                )
                also = "" if has_key or not entry.key_env else f" and {entry.key_env[0]}"
                return None, f"set {name}{also} (its upstream is {entry.upstream})"
            if not _LABELS.fullmatch(value):
                return None, (
                    f"{name} must be the part of the host that {{{variable}}} stands for in "
                    f"{entry.upstream}, letters, digits, `-` and `.` alone; for another host set "
                    f"providers.{entry.id}.upstream"
                )
            text = text.replace(f"{{{variable}}}", value.lower())
        try:
            return self._with_ca(entry, part, parse_origin(text)), ""
        except AddressError as error:  # labels that are too long together, say
            return None, str(error)

    def _part_of_host(self, entry: Entry, part: ProviderPart, variable: str, name: str) -> str:
        """What stands for a `{variable}` of an upstream: `login` may say it, too."""
        making = entry.credential.made
        if making is not None and variable in making.inputs:
            login = Login(entry, making, part.login or {}, self.environ, self.base)
            try:
                return login.value(variable)
            except LoginUnusable as error:
                self._warn(("providers", entry.id, "login", variable), f"{error}.")
                return ""
        return self.environ.get(name, "").strip()

    def _unfit(self, entry: Entry, part: ProviderPart, upstream: Upstream) -> str:
        """Why requests must not go to an upstream, or ""."""
        if self.ourselves.has(upstream):
            return (
                f"the upstream {upstream.origin} is this proxy itself: set "
                f"providers.{entry.id}.upstream to {entry.name}'s own address, or listen elsewhere"
            )
        if not (upstream.tls or is_loopback(upstream.host) or part.allow_plain_upstream):
            return (
                f"the real key would travel in clear to {upstream.origin}: use https://, or set "
                f"providers.{entry.id}.allow_plain_upstream to true"
            )
        return ""

    def _with_ca(self, entry: Entry, part: ProviderPart, upstream: Upstream) -> Upstream:
        upstream = replace(upstream, owner=entry.id)
        if part.ca is None:
            return upstream
        path = self.base / Path(part.ca).expanduser()
        try:
            # bare: reading the system's roots beside it takes 40 ms for each provider
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
        except OSError as error:  # ssl.SSLError is one
            self._fault(
                ("providers", entry.id, "ca"),
                f"{path} can't be read as PEM certificates "
                f"({error.strerror or type(error).__name__}). Name a PEM file with the roots.",
            )
            return upstream
        return replace(upstream, ca=str(path))

    # --- its credential ---------------------------------------------------------------------------

    def _login(self, entry: Entry, part: ProviderPart) -> Login | None:
        """What its credential is made of, where that is the owner's way; None where it is a key."""
        place = ("providers", entry.id, "login")
        making = entry.credential.made
        if making is None:
            if part.login is not None:
                self._fault(place, f"{entry.name} takes a key alone: write `key` instead.")
            return None
        login = Login(entry, making, part.login or {}, self.environ, self.base)
        if part.login is None:
            key = part.key or any(self.environ.get(name, "").strip() for name in entry.key_env)
            return None if key or not login.wanted() else login
        if part.key is not None:
            self._fault(place, "`key` and `login` can't both stand here. Keep one of them.")
        for name in part.login:
            if name not in making.inputs and name not in making.fixed:
                hint = nearest(name, making.inputs) or f" There are {', '.join(making.inputs)}."
                self._fault((*place, name), f"`{hide_keys(name)}` is nothing of a login.{hint}")
        return login

    def _recipe(
        self,
        login: Login,
        part: ProviderPart,
        upstream: Upstream,
        regions: Mapping[str, Upstream],
    ) -> tuple[Recipe | None, str]:
        """How its credential is made, and what is missing where it can't be."""
        place = ("providers", login.entry.id, "login")
        secret = login.making.secret
        if secret in login.given and not keys.reference_kind(login.given[secret].strip()):
            self._warn(
                (*place, secret),
                "the secret stands here in clear. Put it elsewhere and name it: `env:NAME`, "
                "`file:PATH`, `cmd:COMMAND` or `keyring:SERVICE/USER`.",
            )
        try:
            return login.recipe(_hosts(upstream, regions), upstream.ca), ""
        except LoginUnusable as error:
            if part.login is not None:
                where = (*place, error.name) if error.name else place
                self._warn(where, f"{login.entry.name} is not ready: {error}.")
            return None, str(error)

    def _what_switches_on(self, entry: Entry) -> str:
        """For a person, where neither a key nor what one is made of is there."""
        making = entry.credential.made
        ways = [entry.key_env[0]] if entry.key_env else []
        if making is not None:
            login = Login(entry, making, {}, self.environ, self.base)
            lacking = login.lacking() or list(making.starts[:1])
            ways += [" and ".join(lacking)] if lacking else []
        return (
            f"set {', or '.join(ways)}" if ways else f"set providers.{entry.id}.key in config.yaml"
        )

    def _secret(
        self,
        entry: Entry,
        part: ProviderPart,
        upstream: Upstream,
        regions: Mapping[str, Upstream],
    ) -> tuple[Secret | None, str]:
        """The real key bound to the upstream, and what is missing if there is none."""
        place = ("providers", entry.id, "key")
        if part.key is not None:
            ref = part.key.strip()
            if not self._check_reference(place, ref, entry):
                return None, f"see providers.{entry.id}.key"
            source = keys.shown_reference(ref)
            if not keys.reference_kind(ref):
                value = ref  # in clear: works, and is warned of
                source = self.document.where(place)
            else:
                try:
                    value = keys.read_reference(ref, self.environ, self.base)
                except KeyUnavailable as error:
                    self._warn(place, f"{entry.name} is not ready: {error}.")
                    return None, str(error)
                self._check_modes(place, ref)
        else:
            name = next((n for n in entry.key_env if self.environ.get(n, "").strip()), "")
            if not name:
                if entry.credential.optional:
                    if part.model_fields_set:
                        return None, ""
                    # a server of one's own: not every proxy stands before one
                    return None, (
                        f"write `{entry.id}: {{enabled: true}}` under providers in config.yaml, "
                        f"or set {entry.key_env[0]}"
                    )
                return None, self._what_switches_on(entry)
            value, source = self.environ[name].strip(), f"env:{name}"
        problem = unusable(value, source.removeprefix("env:"), entry.name)
        if problem:
            if part.key is not None:
                self._warn(place, f"{entry.name} is not ready: {problem}.")
            return None, problem
        hosts = _hosts(upstream, regions) | {*_named_hosts(entry, part)}
        return Secret(value, hosts=hosts, source=source), ""

    def _check_reference(self, place: tuple[str, ...], ref: str, entry: Entry) -> bool:
        """Whether a key is a reference, or stands in clear; else it is a fault."""
        if not ref:
            self._fault(place, "the key is empty. Write a reference, e.g. `env:NAME`.")
            return False
        if match := _VARIABLE.fullmatch(ref):
            self._fault(place, f"variables are not filled in here. Write `env:{match[1]}` instead.")
            return False
        kind, colon, _ = ref.partition(":")
        if keys.reference_kind(ref):
            return True
        if colon and re.fullmatch(r"[A-Za-z]{2,12}", kind):
            self._fault(
                place,
                f"`{kind}:` is no kind of reference.{nearest(kind.lower(), keys.REFERENCE_KINDS)} "
                "There are env:NAME, file:PATH, cmd:COMMAND and keyring:SERVICE/USER.",
            )
            return False
        if re.fullmatch(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+", ref):
            self._fault(place, f"is this a variable's name? Then write `env:{ref}`.")
            return False
        usual = entry.key_env[0] if entry.key_env else "NAME"
        self._warn(
            place,
            f"the key stands here in clear. Put it elsewhere and name it: `key: env:{usual}`, "
            "`file:PATH`, `cmd:COMMAND` or `keyring:SERVICE/USER`.",
        )
        return True

    def _check_modes(self, place: tuple[str, ...], ref: str) -> None:
        if keys.reference_kind(ref) == "file":
            path = self.base / Path(ref.partition(":")[2].strip()).expanduser()
            if world_readable(path):
                self._warn(place, f"everybody on this machine can read {path}: chmod 600 {path}")

    def _fault(self, place: tuple[str, ...], message: str) -> None:
        self.faults.append(Fault(self.document.where(place), message))

    def _warn(self, place: tuple[str, ...], message: str) -> None:
        self.warnings.append(Fault(self.document.where(place), message))


def _hosts(upstream: Upstream, regions: Mapping[str, Upstream]) -> frozenset[str]:
    """All that a provider's credential may be sent to."""
    return frozenset({upstream.host, *(region.host for region in regions.values())})


def _named_hosts(entry: Entry, part: ProviderPart) -> tuple[str, ...]:
    """Hosts that a path may name; none where the owner has named one upstream for all."""
    return () if part.upstream is not None else entry.named_hosts


def _of_own(credential: Credential) -> Credential:
    """A catalogued credential for a provider of one's own: no variable switches that one on."""
    making = credential.made
    if making is None:
        return credential
    inputs: dict[str, tuple[str, ...]] = dict.fromkeys(making.inputs, ())
    return credential.model_copy(
        update={"made": making.model_copy(update={"inputs": inputs, "starts": ()})}
    )


def unusable(value: str, source: str, provider: str) -> str:
    """Why a key can't be the provider's real one, or "". Says nothing of the key.

    Arguments:
        source: where it came from, for people.
        provider: name of the provider, for people.
    """
    if keys.looks_local(value):
        return (
            f"{source} holds a local LlamaKey key, not {provider}'s: put the real key there (did "
            "you source llamakey_local.env in the server's shell?)"
        )
    if not all("\x21" <= char <= "\x7e" for char in value):
        return (
            f"{source} holds a space, a line break or another character that no key has: copy the "
            "key again, alone"
        )
    if len(value) > 16384:
        return f"{source} holds more than 16 KiB: put the key there, alone"
    return ""


def world_readable(path: Path) -> bool:
    """Whether everybody on this machine can read a file (never on Windows, which has no modes)."""
    try:
        return os.name == "posix" and bool(path.stat().st_mode & 0o004)
    except OSError:
        return False
