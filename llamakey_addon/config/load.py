"""From config.yaml and the environment to `Settings`, with every fault in one report."""

from __future__ import annotations

import ipaddress
import ssl
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

from llamakey_addon import catalogue, certificates, keys
from llamakey_addon.config import addresses
from llamakey_addon.config.addresses import AddressError, Ourselves, is_loopback, is_wildcard
from llamakey_addon.config.folders import default_data_folder
from llamakey_addon.config.model import ConfigFile
from llamakey_addon.config.money import Metering
from llamakey_addon.config.money_reader import read_money, read_prices
from llamakey_addon.config.people_reader import PeopleReader
from llamakey_addon.config.providers import Assembly, world_readable
from llamakey_addon.config.settings import (
    Door,
    Limits,
    Listen,
    Logging,
    Network,
    Settings,
    Tls,
    Trust,
    View,
)
from llamakey_addon.config.shape import shaped, sort_by_line
from llamakey_addon.config.yamlfile import Document, Place, read
from llamakey_addon.errors import ConfigError, Fault
from llamakey_addon.keys import KeyUnavailable

DEFAULT_PATH = Path("config.yaml")


def load(
    path: Path | None,
    environ: Mapping[str, str],
    *,
    listen: str | None = None,
    door: bool = False,
    door_listen: str | None = None,
) -> Settings:
    """See `Settings.load`."""
    if path is None and DEFAULT_PATH.is_file():
        path = DEFAULT_PATH
    document = read(path, str(path)) if path else Document("config.yaml", {}, {})
    file = shaped(document, ConfigFile)
    return _Loading(path, document, file, environ).settings(listen, door, door_listen)


@dataclass(slots=True)
class _Loading:
    """One load: what is read, and what is found wrong."""

    path: Path | None
    document: Document
    file: ConfigFile
    environ: Mapping[str, str]
    faults: list[Fault] = field(default_factory=list)
    warnings: list[Fault] = field(default_factory=list)

    @property
    def base(self) -> Path:
        """Folder to which paths of the file are relative."""
        return self.path.absolute().parent if self.path else Path.cwd()

    def settings(
        self, listen_option: str | None, door_option: bool, door_listen: str | None
    ) -> Settings:
        """Raises ConfigError with everything that is wrong."""
        file = self.file
        data_folder = self._data_folder()
        place = certificates.place_in(data_folder)
        tls = self._tls(place)
        listen = self._listen(listen_option, tls)
        public_url = self._public_url(listen, tls)
        known = catalogue.load()
        assembly = Assembly(
            known, self.document, self.environ, self.base, Ourselves(listen, public_url)
        )
        assembly.join(file.providers)
        providers = assembly.providers.values()
        money, money_faults = read_money(file, self.document)
        prices, price_faults = read_prices(file.prices, self.document, providers)
        people = PeopleReader(self.document, providers, money)
        settings = Settings(
            path=self.path,
            listen=listen,
            workers=file.workers,
            public_url=public_url,
            allow_plain=file.allow_plain,
            trusted_proxies=self._networks(),
            tls=tls,
            trust=(Trust(place.ca, place.bundle) if place.trusts and file.tls is None else None),
            door=self._door(door_option, door_listen, listen, public_url, data_folder),
            data_folder=data_folder,
            contact=self._contact(),
            providers=MappingProxyType(assembly.providers),
            people=people.read(file),
            unowned_allowed=file.isolation.unowned == "allow",
            money=money,
            prices=prices,
            metering=Metering(**dict(file.metering)),
            logging=Logging(file.logging.console, self._log_file()),
            limits=Limits(**dict(file.limits)),
            upstream_proxy=self._upstream_proxy(),
            view=View(**dict(file.view)),
            strip_headers=known.strip_headers.union(
                *(catalogue.credential_headers(p.entry) for p in assembly.providers.values())
            ),
            slot_headers=frozenset(
                slot.header.lower().replace("_", "-").encode()
                for provider in assembly.providers.values()
                for slot in provider.entry.credential.accept
                if slot.header
            ),
            query_keys=known.query_keys,
            subprotocols=known.subprotocols,
        )
        faults = [
            *self.faults,
            *assembly.faults,
            *people.faults,
            *money_faults,
            *price_faults,
        ]
        if faults:
            raise ConfigError(sort_by_line(faults))
        warnings = [*self.warnings, *assembly.warnings, *people.warnings]
        warnings += self._secrets_in_clear({fault.where for fault in warnings})
        return replace(settings, warnings=tuple(sort_by_line(warnings)))

    # --- where we serve ---------------------------------------------------------------------------

    def _listen(self, option: str | None, tls: Tls | None) -> Listen:
        where = "--listen" if option is not None else self.document.where(("listen",))
        try:
            listen = addresses.parse_listen(option if option is not None else self.file.listen)
        except AddressError as error:
            self.faults.append(Fault(where, f"`listen`: {error}."))
            return Listen("localhost", 8000)
        if not (is_loopback(listen.host) or tls or self.file.allow_plain):
            self.faults.append(
                Fault(
                    where,
                    f"`listen` at {listen} would serve plain HTTP beyond this machine, and local "
                    "keys would travel in clear. Set `tls` or run `lmk tls`, or listen on "
                    "localhost, or set `allow_plain: true` where a proxy before this one speaks "
                    "TLS.",
                )
            )
        return listen

    def _public_url(self, listen: Listen, tls: Tls | None) -> str:
        if self.file.public_url is not None:
            try:
                return addresses.parse_public_url(self.file.public_url)
            except AddressError as error:
                self._fault(("public_url",), f"`public_url`: {error}.")
        # On this machine plain HTTP is served beside our own TLS: a client need trust nothing.
        plain = tls is None or (tls.own and is_loopback(listen.host))
        scheme = "http" if plain else "https"
        if is_loopback(listen.host) or is_wildcard(listen.host):
            if not is_loopback(listen.host) and self.file.public_url is None:
                self._warn(
                    ("listen",),
                    "teammates' files will say localhost. Set `public_url` to the URL by which "
                    "they reach this machine.",
                )
            # By name: some clients take a proxy for 127.0.0.1, and none for localhost.
            return f"{scheme}://localhost:{listen.port}"
        return f"{scheme}://{listen}"

    def _door(
        self, option: bool, listen_option: str | None, front: Listen, public_url: str, data: Path
    ) -> Door:
        part, place = self.file.door, certificates.door_in(data)
        where = self.document.where(("door", "listen"))
        listen = Listen("localhost", 8001)
        try:
            listen = addresses.parse_listen(listen_option or part.listen)
        except AddressError as error:
            self.faults.append(Fault(where, f"`door.listen`: {error}."))
        is_open = part.open or option
        if is_open and listen.port and listen.port == front.port:
            self.faults.append(
                Fault(
                    where, f"`door.listen` has the port of `listen`, {front.port}: choose another."
                )
            )
        here = is_loopback(listen.host)
        if is_open and not (here or self.file.allow_plain):
            self.faults.append(
                Fault(
                    where,
                    f"`door.listen` at {listen} would take local keys in clear, since clients "
                    "speak plain HTTP to their proxy. Listen on localhost, and let clients come "
                    "by a tunnel of your own (ssh -L, a VPN), or set `allow_plain: true` in a "
                    "network that you trust.",
                )
            )
        host = "localhost"
        if not here:
            host = (
                (urlsplit(public_url).hostname or host)
                if is_wildcard(listen.host)
                else (listen.host)
            )
        return Door(
            open=is_open,
            listen=listen,
            url=f"http://{Listen(host, listen.port)}",
            tunnel=tuple(pattern.lower() for pattern in part.tunnel),
            trust=(
                Trust(place.ours, place.bundle)
                if place.ours.is_file() and place.bundle.is_file()
                else None
            ),
        )

    def _networks(self) -> tuple[Network, ...]:
        networks: list[Network] = []
        for index, text in enumerate(self.file.trusted_proxies):
            place = ("trusted_proxies", index)
            try:
                network = ipaddress.ip_network(text.strip(), strict=False)
            except ValueError:
                self._fault(place, "write an address or a network, e.g. 10.0.0.0/8.")
                continue
            if network.prefixlen == 0:
                self._warn(
                    place,
                    "everybody is believed about their address. Name the proxy's network alone.",
                )
            networks.append(network)
        return tuple(networks)

    def _tls(self, place: certificates.Place) -> Tls | None:
        part = self.file.tls
        if part is None:
            return self._own_tls(place) if place.serves else None
        tls = Tls(self._path(part.cert), self._path(part.key))
        for name, path in (("cert", tls.cert), ("key", tls.key)):
            try:
                path.read_bytes()
            except OSError as error:
                problem = error.strerror or type(error).__name__
                self._fault(("tls", name), f"{path} can't be read ({problem}). Name a PEM file.")
                return tls
        if not _fit(tls):
            self._fault(
                ("tls",),
                "certificate and key can't be used together. `cert` is a PEM file with the "
                "certificate and its chain, `key` one with its private key, without a passphrase.",
            )
        if world_readable(tls.key):
            self._warn(
                ("tls", "key"), f"everybody on this machine can read {tls.key}: chmod 600 {tls.key}"
            )
        return tls

    def _own_tls(self, place: certificates.Place) -> Tls | None:
        tls = Tls(place.cert, place.key, own=True)
        if _fit(tls):
            return tls
        self.faults.append(
            Fault(str(place.folder), "cert.pem and key.pem can't be used together: run `lmk tls`.")
        )
        return None

    # --- folders, files, words --------------------------------------------------------------------

    def _data_folder(self) -> Path:
        if home := self.environ.get("LLAMAKEY_HOME", "").strip():
            return Path(home).expanduser().absolute()
        if self.file.data_folder:
            return self._path(self.file.data_folder)
        return default_data_folder(self.environ, sys.platform)

    def _log_file(self) -> Path | None:
        if not self.file.logging.file:
            return None
        path = self._path(self.file.logging.file)
        if not path.parent.is_dir():
            self._fault(("logging", "file"), f"there is no folder {path.parent}. Create it.")
        elif path.is_dir():
            self._fault(("logging", "file"), f"{path} is a folder. Name a file in it.")
        return path

    def _contact(self) -> str:
        contact = self.file.contact.strip()
        if not contact.isprintable() or len(contact) > 200:
            self._fault(("contact",), "`contact` is one line of at most 200 characters.")
        return contact

    def _upstream_proxy(self) -> str | None:
        text = (self.file.upstream_proxy or "").strip()
        if not text:
            return None
        place = ("upstream_proxy",)
        in_clear = not keys.reference_kind(text)
        if not in_clear:
            try:
                text = keys.read_reference(text, self.environ, self.base)
            except KeyUnavailable as error:
                # Without the proxy that the owner asked for, nothing may go out another way.
                self._fault(place, f"`upstream_proxy`: {error}.")
                return None
        expected = "write the proxy's URL, e.g. http://proxy.corp:3128"
        userinfo, at, _ = text.partition("://")[2].rpartition("@")
        try:
            if at and not userinfo.isprintable():
                raise AddressError(expected)
            # A proxy's password stands in its URL by custom; the rest is checked without it.
            plain = addresses.parse_origin(text.replace(f"{userinfo}@", "", 1) if at else text)
        except AddressError:
            self._fault(place, f"`upstream_proxy`: {expected}.")
            return None
        if plain.scheme != "http":
            self._fault(
                place, "`upstream_proxy`: a proxy is reached by http:// (CONNECT goes through it)."
            )
        if at and in_clear and ":" in userinfo:
            self._warn(
                place,
                "the proxy's password stands here in clear. Put the URL elsewhere and name it: "
                "`upstream_proxy: env:NAME`.",
            )
        return f"http://{userinfo}{at}{urlsplit(plain.origin).netloc}"

    def _secrets_in_clear(self, told: Collection[str]) -> list[Fault]:
        """Lines with what looks like a key, but for those that were `told` of by their setting."""
        return [
            Fault(
                f"{self.document.name}:{line}",
                "something here looks like a key in clear. Keep keys out of this file, comments "
                "included: name them by `env:NAME`, `file:PATH`, `cmd:…` or `keyring:…`.",
            )
            for line in self.document.secret_lines
            if f"{self.document.name}:{line}" not in told
        ]

    def _path(self, text: str) -> Path:
        return self.base / Path(text).expanduser()

    def _fault(self, place: Place, message: str) -> None:
        self.faults.append(Fault(self.document.where(place), message))

    def _warn(self, place: Place, message: str) -> None:
        self.warnings.append(Fault(self.document.where(place), message))


def _fit(tls: Tls) -> bool:
    """Whether certificate and key belong together and can be read."""
    try:
        # The empty password keeps OpenSSL from asking for one on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            tls.cert, tls.key, password=lambda: ""
        )
    except (OSError, ValueError):
        return False
    return True
