"""The shape of config.yaml, for reading it and for its JSON Schema.

The docs of the fields are the manual: editors show them. Defaults stand here once; `settings.py`
turns what is written into what the proxy runs by.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from llamakey_addon.config.money_model import MeteringPart, MoneyPart, PricePart
from llamakey_addon.config.part import Bytes, Count, Part, Seconds
from llamakey_addon.config.people_model import EverybodyPart, MemberPart, TeamPart


class TlsPart(Part):
    cert: str
    """PEM file with the certificate and its chain. Relative to this file's folder."""
    key: str
    """PEM file with its private key, without a passphrase."""


class CredentialPart(Part):
    header: Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")] = "Authorization"
    """Header in which the provider wants its key."""
    format: Annotated[str, Field(pattern=r"^[\x21-\x7e ]*\{key\}$")] = "Bearer {key}"
    """How the header's value is made; `{key}` stands for the key."""


class ProviderPart(Part):
    """A catalogued provider is named by its id, and everything is optional. A provider of your own
    needs `upstream`, and `like` or `credential`."""

    enabled: bool = True
    """false takes the provider out of service."""
    key: str | None = None
    """Where the real key is: `env:NAME`, `file:PATH`, `cmd:COMMAND` or `keyring:SERVICE/USER`.
    Default: the provider's usual environment variable."""
    login: dict[str, str] | None = None
    """What the real credential is made of where it is no key, such as `client_id`, `client_secret`
    and `tenant` for Azure. Secrets by reference, as for `key`. Default: the usual variables."""
    regions: list[Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$")]] | None = None
    """Regions that the provider has beside those that the catalogue knows, e.g. [us-new1]."""
    metadata: str | None = None
    """Vertex AI: name of a local key for which the proxy is Google's metadata server, at its root,
    for SDKs that know no other way. It answers programs of the proxy's own user on the same machine
    alone, with short-lived tokens."""
    upstream: str | None = None
    """Origin that requests go to, e.g. `https://eu.api.openai.com`. Default: the provider's own."""
    ca: str | None = None
    """PEM file with roots to trust for this upstream, beside the usual ones."""
    allow_plain_upstream: bool = False
    """Let the real key travel over plain HTTP to a host beyond loopback."""
    prefix: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")] | None = None
    """First segment of the path at the proxy. Default: the provider's id."""
    like: str | None = None
    """For a provider of your own: id of a catalogued provider whose API it speaks."""
    credential: CredentialPart | None = None
    """For a provider of your own: where its key goes. Default: as `like` says."""


class IsolationPart(Part):
    unowned: Literal["deny", "allow"] = "deny"
    """What is under the account and nobody made through this proxy (it is older, say, or made in
    the provider's console): whether users may see and use it. Where one user alone has keys, all is
    theirs."""


class DoorPart(Part):
    open: bool = False
    """Open the second door; `lmk serve --door` does it, too."""
    listen: str | int = "localhost:8001"
    """Address on which it takes CONNECT: `HOST:PORT`, or a port on localhost."""
    tunnel: list[Annotated[str, Field(pattern=r"^[A-Za-z0-9.*-]+(:[0-9]{1,5})?$")]] = []
    """Hosts that are no providers' and to which it lets bytes pass as they are, for holders of a
    local key: globs such as `*.example.com`, with `:PORT` for another port than 443. Addresses of
    this machine or of a private network are reached by hosts that are written out alone."""


class LoggingPart(Part):
    console: bool = True
    """One line a request on the console."""
    file: str | None = None
    """File to which one JSON object a request is appended. Relative to this file's folder."""


class LimitsPart(Part):
    head_bytes: Bytes = 65536
    """Request line and headers of a request together."""
    head_fields: Count = 100
    """Header fields of a request."""
    head_timeout_s: Seconds = 20.0
    """From the first byte of a request to the end of its head."""
    keepalive_timeout_s: Seconds = 75.0
    """How long a client's connection may wait for its next request."""
    body_bytes: Bytes = 1073741824
    """Body of a request."""
    json_body_bytes: Bytes = 33554432
    """Bodies that are read whole before a request is judged: JSON; forms and files of batches where
    something hangs on them; lists in answers that are filtered. A longer one streams, and is
    refused where it would have to be read for a rule."""
    signed_body_bytes: Bytes = 33554432
    """Bodies whose hash is signed (AWS) are read whole up to this size; longer ones are refused."""
    body_timeout_s: Seconds = 60.0
    """How long an unfinished request body may pause."""
    answer_timeout_s: Seconds = 1800.0
    """How long a provider may be silent, before its answer or within it."""
    connect_timeout_s: Seconds = 10.0
    """To open a connection to a provider, TLS included."""
    connections: Count = 8000
    """Connections of clients in all."""
    connections_per_address: Count = 4000
    """Connections of clients from one address."""
    pool_idle: Annotated[int, Field(ge=0, le=100_000)] = 32
    """Idle connections kept for each upstream; 0 keeps none."""
    pool_idle_s: Seconds = 30.0
    """How long an idle upstream connection is kept."""
    pool_warm: Annotated[int, Field(ge=0, le=1000)] = 1
    """Connections to each provider in service that are opened before anybody asks, and kept: a
    first call need not wait for them. At most `pool_idle`; 0 opens none ahead."""
    upstream_connections: Count = 8000
    """Connections to each upstream; requests beyond wait in line, up to `connect_timeout_s`."""
    answer_head_bytes: Bytes = 65536
    """Status line and headers of a provider's answer."""
    drain_timeout_s: Annotated[float, Field(ge=0, le=86400)] = 30.0
    """How long running requests may go on when the proxy is told to stop."""
    retire_timeout_s: Annotated[float, Field(ge=0, le=604800)] = 3600.0
    """How long running requests may go on in a worker that a restart has replaced."""


class ViewPart(Part):
    max_flows: Count = 1000
    """Flows that mitmweb or the console keep; the oldest ones are dropped."""
    body_bytes: Annotated[int, Field(ge=0, le=2**40)] = 4194304
    """How much of a body a flow shows."""
    web_port: Annotated[int, Field(ge=0, le=65535)] = 8081
    """Port of mitmweb's page, on loopback, with `lmk serve --web`; 0 takes a free one."""


class ConfigFile(Part):
    """config.yaml of LlamaKey. Every setting is optional."""

    listen: str | int = "localhost:8000"
    """Address on which the proxy serves: `HOST:PORT`, or a port on localhost."""
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    """How many processes serve, on the same port, sharing limits and ledger; more than one restart
    without a gap (SIGUSR2). Bounds on connections in `limits` are shared out among them."""
    public_url: str | None = None
    """URL by which clients reach the proxy; stands in their environment files. Default: localhost
    and the port."""
    allow_plain: bool = False
    """Serve plain HTTP beyond loopback. Local keys then travel in clear: only behind a proxy that
    speaks TLS, or in a network that you trust."""
    trusted_proxies: list[str] = []
    """Networks of the proxies before this one whose X-Forwarded-For and Forwarded are believed."""
    tls: TlsPart | None = None
    """Serve HTTPS with this certificate; else with the one that `lmk tls` made, if it was run. The
    same port then serves plain HTTP to this machine alone (with `allow_plain`, to all)."""
    door: DoorPart = DoorPart()
    """The second door: a port that takes CONNECT, where the host chooses the provider, for SDKs
    that no variable redirects."""
    data_folder: str | None = None
    """Folder of the store with the local keys' hashes. The variable LLAMAKEY_HOME goes before it.
    Default: the platform's place for data."""
    contact: str = ""
    """Whom to ask, shown to people whose request is refused, e.g. `ops@example.com`."""
    providers: dict[str, ProviderPart | None] = {}
    """Providers that need more than their usual environment variable, and your own."""
    everybody: EverybodyPart = EverybodyPart()
    """Bounds on all requests of this proxy together."""
    teams: dict[str, TeamPart | None] = {}
    """What the members of each team may do; bounds are on the team together."""
    users: dict[str, MemberPart | None] = {}
    """What each user may do; `"*"` stands for each user who is not named."""
    isolation: IsolationPart = IsolationPart()
    """Whose files, batches and the like are whose, under one account of the provider's."""
    money: MoneyPart = MoneyPart()
    """The currency of budgets, and when their days begin."""
    prices: list[PricePart] = []
    """Prices that go before the table that comes along."""
    metering: MeteringPart = MeteringPart()
    """What is done with what is counted."""
    logging: LoggingPart = LoggingPart()
    """Where requests are logged. No header values, bodies or keys are."""
    limits: LimitsPart = LimitsPart()
    """Bounds on what one client, or all, may take."""
    upstream_proxy: str | None = None
    """Proxy towards the providers, e.g. `http://proxy.corp:3128`, or a reference such as
    `env:CORP_PROXY`. Default: HTTPS_PROXY and NO_PROXY of the environment."""
    view: ViewPart = ViewPart()
    """What mitmweb and the console keep."""


def json_schema() -> dict[str, Any]:
    """JSON Schema of config.yaml, for editors."""
    schema = ConfigFile.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "LlamaKey's config.yaml",
        **{name: part for name, part in schema.items() if name != "title"},
    }
