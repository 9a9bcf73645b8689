"""The values of a request's journey, each made by one stage from the one before.

    Ask → Route → User → Visit → Call → Hold → Grant → Usage → Receipt

All are frozen: what was judged cannot change on the way. Only a `Grant` can be sent, and only
`gate.depart` makes one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from llamakey_addon.quick import quick

if TYPE_CHECKING:
    from llamakey_addon.addresses import Addresses
    from llamakey_addon.catalogue.models import Endpoint, Entry, Placement
    from llamakey_addon.course import Course
    from llamakey_addon.filters import MakeFilter
    from llamakey_addon.keys import Secret
    from llamakey_addon.meter import Asked
    from llamakey_addon.signature import Claim
    from llamakey_addon.store.ledger import Hold

type Headers = tuple[tuple[bytes, bytes], ...]
"""Names and values as they came, in their order, with their duplicates."""


class KnownHead:
    """A request's head that comes again and again, but for the values of some headers that differ
    each time; and what was derived of it."""

    __slots__ = (
        "_derived",
        "length_place",
        "method",
        "named",
        "places",
        "target",
        "varying",
    )

    def __init__(
        self, method: str, target: str, headers: Headers, places: tuple[int, ...] = ()
    ) -> None:
        self.method = method
        self.target = target
        self.places = places
        """Which headers' values differ."""
        names = [name.lower() for name, _ in headers]
        self.varying = frozenset(names[place] for place in places)
        """And their names, in lower case: nothing that is kept may follow from them."""
        self.length_place = names.index(b"content-length") if b"content-length" in names else -1
        self.named: dict[bytes, tuple[bytes, ...]] = {}
        """What stands under each other name, in lower case."""
        for name, (_, value) in zip(names, headers, strict=True):
            if name not in self.varying:
                self.named[name] = (*self.named.get(name, ()), value)
        self._derived: dict[str, tuple[object, Any]] = {}

    def recall(self, what: str, by: object) -> Any:
        """What `keep` was told last of `what`, if it was derived by this (settings); else None."""
        found = self._derived.get(what)
        return found[1] if found is not None and found[0] is by else None

    def keep(self, what: str, by: object, value: object) -> None:
        """Remember what follows from method, target and headers, and from `by`, alone. It may not
        follow from a header in `varying`, nor change."""
        self._derived[what] = (by, value)


class KnownHeaders(tuple[tuple[bytes, bytes], ...]):
    """Headers of a known head, as they came. Whoever edits them makes a plain tuple, of which
    nothing is known."""

    known: KnownHead


@dataclass(frozen=True, slots=True)
class Passage:
    """A tunnel through the second door to a provider's host, which chose the provider."""

    host: str
    """As CONNECT named it, in lower case."""
    port: int
    prefix: str
    """The provider's."""
    upstream: Upstream | None = None
    """Where requests go if the host is that of a region; None: as anywhere."""
    sign_in: bool = False
    """The host is a server of tokens, and serves nothing else."""
    key_id: str = ""
    """Of the local key that the proxy credentials showed; "" for none: each request shows its
    own."""
    sni: str = ""
    """The name that the client's TLS asked for."""
    named: str = ""
    """The host, where it is one of `Entry.named_hosts`."""

    @property
    def lead(self) -> str:
        """What stands before a path that came by it, at the front door."""
        return f"{self.prefix}/{self.named}" if self.named else self.prefix

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == 443 else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Detour:
    """A tunnel through the second door to a host that is no provider's; nothing in it is looked
    at."""

    upstream: Upstream
    key_id: str
    """Of the local key that the proxy credentials showed."""


def values_of(headers: Headers, name: bytes) -> tuple[bytes, ...]:
    """What stands under a name (in lower case)."""
    if type(headers) is KnownHeaders and name not in headers.known.varying:
        return headers.known.named.get(name, ())
    return tuple([value for other, value in headers if other.lower() == name])


@quick
@dataclass(frozen=True, slots=True)
class Ask:
    """The head of a request, parsed and not yet judged."""

    id: str
    """Request id, e.g. `lmk_01J…`: in the answer's denial, in the log, in the flow."""
    time_s: float
    """When the head was complete, UTC seconds since 1970."""
    peer: str
    """Address of the client, without port; behind a trusted proxy the one it forwards."""
    method: str
    target: str
    """Request target as sent, visible ASCII."""
    headers: Headers
    body_length: int | None
    """Bytes of the body: 0 for none, None for a chunked one."""
    as_key: str = ""
    """For replays alone: id of the local key that the request runs as, in place of a credential."""

    websocket: bool = False
    """It asks for a WebSocket; whether rightly so is judged later."""
    tls: bool = False
    """The client's connection to us is TLS."""
    forwarded: bool = False
    """It came by a trusted proxy before us."""
    passage: Passage | None = None
    """The tunnel that it came by; `target` then begins with the provider's prefix all the same."""

    @property
    def sent_target(self) -> str:
        """The target as the client wrote it."""
        passage = self.passage
        return self.target if passage is None else self.target.removeprefix(f"/{passage.lead}")

    @property
    def known(self) -> KnownHead | None:
        """What is known of this head; None where it is new, or was edited."""
        headers = self.headers
        if type(headers) is not KnownHeaders:
            return None
        known = headers.known
        same = known.target == self.target and known.method == self.method
        apart = self.as_key or self.websocket or self.passage is not None
        return known if same and not apart else None


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where a provider's connections go. Two equal values may share a connection."""

    scheme: str
    """`https`, or `http` where the config allows it; `tcp` for a client's own tunnel."""
    host: str
    port: int
    ca: str = ""
    """Path of a PEM file with further trusted roots, or ""."""
    owner: str = ""
    """Id of the provider whose credential its connections carry: no other's requests use them."""
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # asked for several times a request, by the pool
        own = (self.scheme, self.host, self.port, self.ca, self.owner)
        object.__setattr__(self, "_hash", hash(own))

    def __hash__(self) -> int:
        return self._hash

    public: bool = False
    """Connect to addresses of the public internet alone, whatever the name stands for."""

    @property
    def tls(self) -> bool:
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """As the Host header writes it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        return f"{self.scheme}://{self.authority}"


@quick
@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request as it is about to be written, for a credential that signs it."""

    upstream: Upstream
    method: str
    target: str
    headers: Headers
    """Everything but the credential and the body's framing."""
    content: bytes | None
    """The whole body; None while it streams."""


class Seal(Protocol):
    """A real credential that is ready to be put on requests."""

    def put(self, request: Outgoing) -> tuple[Headers, tuple[bytes, ...]]:
        """What of it stands in the head of this request, and every secret in that, for the mask.

        Raises SecretMisuse for a host that the credential is not bound to.
        """

    def secrets(self) -> tuple[Secret, ...]:
        """Everything of it that may stand nowhere else."""


@dataclass(frozen=True, slots=True, eq=False)
class Recipe:
    """How a real credential is made that is not a key: what the owner gave for it, and where what
    is made of it may go. Two recipes are equal only if they are the same object."""

    kind: str
    """Which of `credentials.KINDS` makes it."""
    name: str
    """Of the provider, for people."""
    setting: str
    """Where the owner says more, e.g. `providers.azure.login`."""
    source: str
    """Where the owner's part came from, for people."""
    place: Placement
    hosts: frozenset[str]
    """Hosts, without port, to which what is made may be sent."""
    inputs: Mapping[str, str]
    """What of the owner's part is no secret."""
    secret: Secret | None = None
    """What is one, bound to the host that makes a credential of it."""
    signs_body: bool = False
    """Whether the credential depends on the body, which is then read whole before it is sent."""
    ca: str = ""
    """Path of a PEM file with further roots, as the upstream's."""
    proxy: str | None = None
    """URL of the company's proxy; None leaves the choice to the environment."""


@dataclass(frozen=True, slots=True)
class Provider:
    """A catalogue entry as this proxy has it: with its upstream and its real key."""

    id: str
    prefix: str
    entry: Entry
    upstream: Upstream | None
    """None where the owner has yet to say which (see `missing`)."""
    secret: Secret | None
    """The real key, bound to the upstream's host; None where there is none."""
    missing: str = ""
    """What switches this provider on, for a person: empty when it is ready."""
    recipe: Recipe | None = None
    """How its credential is made, where that is no key; then `secret` is None."""
    regions: Mapping[str, Upstream] = field(default_factory=dict)
    """Upstreams among which the path chooses (`Entry.regions`), by the region's name."""
    named_hosts: tuple[str, ...] = ()
    """Hosts, or globs of them, that the path names and to which requests go; none where the owner
    has named one upstream for all, which is then asked for `/<host>/…`, as we are."""
    metadata: str = ""
    """Name of the local key for which we are Google's metadata server; "" for not at all."""

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """What the owner gave for it, for those who look that it stands nowhere."""
        made_of = None if self.recipe is None else self.recipe.secret
        return tuple(secret for secret in (self.secret, made_of) if secret is not None)

    @property
    def ready(self) -> bool:
        return not self.missing


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request goes."""

    provider: Provider
    endpoint: Endpoint | None
    """None for a path that the catalogue does not know."""
    path: str
    """The provider's own path, canonical, as it will be sent."""
    query: str
    """Without `?`, without a credential; as it will be sent."""
    params: dict[str, str]
    """What the endpoint's `{…}` matched."""
    region: Upstream | None = None
    """The upstream that the path chose; None for the provider's own."""
    host: str = ""
    """Which of `Entry.named_hosts` the path named; it is no part of `path`."""
    ticket: str = ""
    """That came in the query, in place of a key."""

    @property
    def target(self) -> str:
        return f"{self.path}?{self.query}" if self.query else self.path

    @property
    def named_path(self) -> str:
        return f"/{self.host}{self.path}" if self.host else self.path

    @property
    def named_target(self) -> str:
        """With the host, where the path named one."""
        return f"/{self.host}{self.target}" if self.host else self.target


@dataclass(frozen=True, slots=True)
class Rule:
    """Something that a user may do; empty means any. Globs: `*` within a segment, `**` across."""

    providers: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    """The provider's own paths, or names of endpoints."""
    models: tuple[str, ...] = ()
    """Globs of model names, in which `*` stands for anything."""
    setting: str = field(default="", compare=False)
    """Where it stands, e.g. `teams.research.deny[0]`."""


type Unit = Literal["requests", "tokens", "concurrent", "nusd"]
"""What a cap counts; `nusd` are nano-dollars."""
type Window = Literal["", "second", "minute", "hour", "day", "week", "month", "total"]
"""Over which time; "" for what runs at once. Money goes by the calendar of the configured time
zone; everything else by a window that slides."""
type Group = Literal["key", "user", "team", "provider", "model", "tag"]


@dataclass(frozen=True, slots=True)
class Cap:
    """A bound on what some requests together may take: a rate, tokens, requests at once, money."""

    setting: str
    """Where it stands, e.g. `teams.research.budgets[0]`: for messages."""
    subject: tuple[str, str]
    """Whose requests: `("team", "research")`, `("user", "alice")` with the name as users' names are
    compared, `("key", id)`, `("everybody", "")`."""
    unit: Unit
    most: int
    window: Window = ""
    of: Rule = Rule()
    """Which of them."""
    tags: tuple[str, ...] = ()
    """Globs of session tags; empty means any, also none."""
    each: tuple[Group, ...] = ()
    """Counted apart for each value of these; empty means together."""
    hard: bool = True
    """Refuse what goes beyond; else it is only told of."""
    warn_at: tuple[int, ...] = ()
    """Percentages at which the log says so."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What somebody may do: a user with what their team has, or one key."""

    allow: tuple[Rule, ...] | None = None
    """Whitelist; None means that there is none and everything is allowed."""
    deny: tuple[Rule, ...] = ()
    """Goes before every `allow`."""
    caps: tuple[Cap, ...] = ()
    body_bytes: int | None = None
    team: str = ""
    shared: bool = False
    """Whether members of the team see and use what others of it made under the account."""
    shown_to: frozenset[str] = frozenset()
    """Users, as their names are compared, who see and use what this one made; `*`: everybody."""
    allow_setting: str = ""
    """Where the whitelist stands or would stand, e.g. `users.alice.allow`."""
    body_setting: str = ""
    """Where `body_bytes` stands."""


@quick
@dataclass(frozen=True, slots=True)
class User:
    """Who asks: the owner of a local key that verified."""

    name: str
    key_id: str
    key_name: str
    policy: Policy = Policy()
    """What the user may do, with what their team has."""
    scope: Policy | None = None
    """What the key may do of it; None where the key has no scope of its own."""


@dataclass(frozen=True, slots=True)
class Upgrade:
    """What a client asks for that wants a WebSocket; `handshake` reads and answers it."""

    key: bytes
    """Its Sec-WebSocket-Key."""
    offered: tuple[bytes, ...]
    """The subprotocols that it offers."""
    passed: tuple[bytes, ...]
    """Those of them that the provider sees: none that holds a key or names an account."""


@quick
@dataclass(frozen=True, slots=True)
class Visit:
    """A request whose way and sender are known."""

    ask: Ask
    route: Route
    user: User
    body_wanted: bool
    """Whether the body is read before judging; else it is streamed."""
    body_peeked: bool = False
    """It is read only where its first bytes say that it may be JSON; a file streams."""
    body_signed: bool = False
    """Whether it must be there whole, since a signature covers it, the client's or ours."""
    upgrade: Upgrade | None = None
    """The WebSocket that is asked for; None for a plain request."""
    claim: Claim | None = None
    """The client's own signature, to be verified when the body is there."""
    body_bytes: int = 2**50
    """How large it may be, and the setting that says so."""
    body_setting: str = ""
    shared: bool = True
    """Whether, when it came, more than one user had keys."""
    course: Course | None = None
    """What else follows of it; None where that is to be worked out."""


@quick
@dataclass(frozen=True, slots=True)
class Body:
    """What of a body is there when a request is judged: all of it, or nothing yet."""

    content: bytes | None
    """The whole body; None while it streams."""
    start: bytes = b""
    """The first bytes of one that streams, where they were waited for."""


@quick
@dataclass(frozen=True, slots=True)
class Within:
    """Requests within a request, a batch's: those for one endpoint and model."""

    endpoint: Endpoint | None
    model: str
    requests: int
    body_bytes: int
    """Of all of them; about."""


@quick
@dataclass(frozen=True, slots=True)
class Call:
    """A request that is allowed."""

    visit: Visit
    model: str
    """As the forwarded bytes name it; "" where unknown or none."""
    within: tuple[Within, ...] = ()
    """What stands in its body, where that was read."""


@quick
@dataclass(frozen=True, slots=True)
class Grant:
    """Leave to send one request to one upstream. The real key is not in it in clear."""

    call: Call
    upstream: Upstream
    method: str
    target: str
    headers: Headers
    """Everything that goes upstream but the credential and the body's framing."""
    seal: Seal | None
    """The credential where it is a key; None where it is made (`recipe`), or none is needed."""
    recipe: Recipe | None
    hold: Hold
    """Its row in the ledger, with what is reserved for it: open, or about to be."""
    asked: Asked
    """For the meter."""
    content: bytes | None = None
    """What is sent in place of the client's body; None leaves it as it is."""
    watched: bool = False
    """Whether its answer is ended where it uses up a hard budget."""
    upgrade: Upgrade | None = None
    """The WebSocket to open; None for a plain request."""
    filters: tuple[MakeFilter, ...] = ()
    """What changes the answer on its way to the client."""
    addresses: Addresses | None = None
    """What becomes of addresses that its head names."""

    @property
    def visit(self) -> Visit:
        return self.call.visit


@dataclass(frozen=True, slots=True)
class Errand:
    """A request that the proxy answers itself, once its body is there: a call for a token."""

    ask: Ask
    provider: Provider
    metadata: bool = False
    """As Google's metadata server, which nobody but processes of our own user may ask."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that the proxy makes itself: a denial, its health, a courtesy."""

    status: int
    reason: str
    headers: Headers
    """Without framing: the road adds the length."""
    body: bytes


type Counts = Mapping[str, int]
"""What was used, by kind. The names are genai-prices' (`input_tokens` with what was cached,
`cache_read_tokens`, `cache_write_tokens`, `output_tokens`, `input_characters`, `web_searches`,
`rerank_searches`, …), but time is in milliseconds (`audio_ms`, `input_audio_ms`, `compute_ms`).
Kinds that it does not know have their unit in their name (`images`, `videos`). `billed_nusd` is
what the answer itself says that it cost, in nano-dollars."""
NO_COUNTS: Final[Counts] = MappingProxyType({})

type Quality = Literal["exact", "estimated", "unpriced", "free", "none"]
"""How the figures of a request came about.

exact       the provider's own counts, and a known price
estimated   counts from what passed, or from what was reserved, or a price for another unit
unpriced    the cost is 0 because it is not known
free        it costs nothing, by the owner's word or the catalogue's
none        nothing was used: an error that is not billed, an endpoint without usage
"""

type Terms = tuple[tuple[str, str], ...]
"""What a price hangs on beside the counts, as genai-prices names it: `("service_tier", "flex")`,
`("processing", "batch")`. A router's answer names who served it: `("route", "together")`."""


@quick
@dataclass(frozen=True, slots=True)
class Metered:
    """What an answer says, or lets us guess, of what was used."""

    counts: Counts = NO_COUNTS
    exact: bool = False
    """The provider's own figures for the whole answer; else they are estimated from what passed."""
    model: str = ""
    """As the answer names it; "" where it does not."""
    terms: Terms = ()
    job: str = ""
    """Whose usage this is, where an answer can be fetched more than once (a background response, a
    prediction, a batch): the job's id. Such usage counts once a provider and job."""


PRICE_UNITS: Final = (
    "input_mtok",
    "output_mtok",
    "cache_read_mtok",
    "cache_write_mtok",
    "cache_write_1h_mtok",
    "input_audio_mtok",
    "output_audio_mtok",
    "cache_audio_read_mtok",
    "input_image_mtok",
    "output_image_mtok",
    "input_video_mtok",
    "output_reasoning_mtok",
    "character_mtok",
    "audio_hour",
    "compute_hour",
    "request",
    "image",
    "video",
    "video_second",
    "page",
    "search",
    "classification",
    "web_search",
)
"""What a `PriceRule` may price. `_mtok` is a million tokens (of `character_mtok`: characters), an
hour is one of audio or of compute, `search` a unit of reranking, `page` one read by OCR."""


@dataclass(frozen=True, slots=True)
class PriceRule:
    """The owner's own price of some models; it goes before every table, and before what an answer
    says of its cost."""

    setting: str
    """Where it stands, e.g. `prices[0]`."""
    provider: str = ""
    """Id of a provider; "" means any."""
    model: str = "*"
    """Glob of model names, in which `*` stands for anything; compared without case."""
    free: bool = False
    usd: tuple[tuple[str, Decimal], ...] = ()
    """Units of `PRICE_UNITS` and their prices in dollars."""


@quick
@dataclass(frozen=True, slots=True)
class Usage:
    """What the road saw of the answer."""

    status: int
    """Of the provider's answer; 0 when there was none."""
    bytes_up: int
    bytes_down: int
    first_byte_s: float | None
    """From the head's arrival to the answer's first byte; None when there was none."""
    total_s: float
    end: str
    """`complete`, or why it ended before: `client left`, `upstream cut`, `timeout`, `masked` …"""
    sent: bool = True
    """Whether anything went to the provider."""
    metered: Metered | None = None
    """None where no answer began."""
    note: str = ""
    """For the owner."""


@quick
@dataclass(frozen=True, slots=True)
class Receipt:
    """One line of the log."""

    id: str
    time_s: float
    peer: str
    user: str
    key_name: str
    provider: str
    endpoint: str
    method: str
    path: str
    model: str
    status: int
    """As the client saw it."""
    bytes_up: int
    bytes_down: int
    first_byte_ms: float | None
    total_ms: float
    end: str
    denied: str = ""
    """Code of the denial, or ""."""
    note: str = ""
    """For the owner, e.g. that the provider refused the real key."""
    team: str = ""
    tag: str = ""
    counts: Counts = NO_COUNTS
    cost_nusd: int = 0
    quality: Quality = "none"
