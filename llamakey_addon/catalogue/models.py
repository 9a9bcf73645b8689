"""The shape of a provider's YAML file, checked when it is loaded.

One file a provider, `extra='forbid'` throughout: a word that nobody reads is an error. The field
docs here are the manual for whoever adds a provider.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from llamakey_addon.hosts import GLOB

_FIELD_NAME = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"
_SUBPROTOCOL = r"^(?:[A-Za-z0-9._-]+, )*[A-Za-z0-9._-]*\{key\}$"

type Flavour = Literal[
    "none",
    "anthropic",
    "anthropic-batch",
    "anthropic-complete",
    "assemblyai",
    "auto",
    "batch-file",
    "bedrock-converse",
    "bedrock-invoke",
    "characters",
    "cohere-v1",
    "cohere-v2",
    "deepgram-read",
    "gemini",
    "gemini-batch",
    "gemini-batch-file",
    "gemini-interactions",
    "gemini-live",
    "images",
    "mistral-conversations",
    "mistral-ocr",
    "ollama",
    "openai-batch",
    "openai-chat",
    "openai-embeddings",
    "openai-realtime",
    "openai-responses",
    "openai-run",
    "openai-stored",
    "perplexity",
    "perplexity-async",
    "predictions",
    "replicate",
    "requests",
    "routed-chat",
    "routed-responses",
    "text-generation",
    "transcription",
    "videos",
    "xai-chat",
    "xai-video",
]
"""How an answer says what was used. `meter/flavours.py` says how each is read, and what of it is
counted; a flavour is added there and here."""


class Model(BaseModel):
    """Base of everything here: frozen, and strict about unknown words."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Slot(Model):
    """A place in a request where a client puts its key.

    Exactly one of `header`, `query` and `subprotocol` is given.
    """

    header: Annotated[str, Field(pattern=_FIELD_NAME)] | None = None
    """Header name, e.g. `Authorization`. Compared without case."""
    query: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")] | None = None
    """Query parameter, e.g. `key` for Gemini's `?key=`."""
    subprotocol: Annotated[str, Field(pattern=_SUBPROTOCOL)] | None = None
    """Of a WebSocket, the word among the offered subprotocols that holds the key, e.g.
    `openai-insecure-api-key.{key}`, or several that belong together, e.g. `token, {key}`."""
    proof: Literal["", "jwt", "sigv4"] = ""
    """Where what stands there is no key but what one has signed: a JSON Web Token of a key file of
    ours, beside a key or token itself; or AWS's signature, whose session token is the local key."""
    scheme: str = ""
    """Word before the key, e.g. `Bearer` or `Token`, compared without case; empty for a bare
    key."""

    @model_validator(mode="after")
    def _one_place(self) -> Slot:
        if sum(place is not None for place in (self.header, self.query, self.subprotocol)) != 1:
            raise ValueError("a slot names exactly one of `header`, `query` and `subprotocol`")
        return self


class Placement(Model):
    """Where the real key goes in a request to the provider: always one header."""

    header: Annotated[str, Field(pattern=_FIELD_NAME)]
    format: Annotated[str, Field(pattern=r"^[\x21-\x7e ]*\{key\}$")] = "{key}"
    """How its value is made, e.g. `Bearer {key}`."""


class Making(Model):
    """How a real credential is made where it is no key: for a time, or for each request anew."""

    kind: Literal["client-credentials", "google", "aws"]
    """Who makes it: a module of `credentials/`."""
    place: Placement = Placement(header="Authorization", format="Bearer {key}")
    inputs: dict[Annotated[str, Field(pattern=r"^[a-z][a-z_]*$")], tuple[str, ...]]
    """What the owner gives, by name: the variables that are looked into, the first that is set is
    taken; `file:NAME` is one that holds a path. `login` in config.yaml goes before them."""
    needs: tuple[str, ...] = ()
    """Inputs without which nothing can be made."""
    secret: str = ""
    """Name of the input that is a secret."""
    starts: tuple[str, ...] = ()
    """Variables of which at least one must be set, else only `login` switches the provider on."""
    fixed: dict[str, str] = {}
    """Inputs that seldom differ, e.g. `token_url`, with `{input}` for others."""
    signs_body: bool = False
    """Whether it depends on the body's bytes."""
    package: str = ""
    """A module that it needs, and `extra`, the extra of ours that brings it."""
    extra: str = ""

    @model_validator(mode="after")
    def _named(self) -> Making:
        unknown = {*self.needs, *filter(None, [self.secret])} - self.inputs.keys()
        if unknown:
            raise ValueError(f"`inputs` does not have {', '.join(sorted(unknown))}")
        return self


class Credential(Model):
    """Both sides of the swap."""

    place: Placement
    accept: Annotated[tuple[Slot, ...], Field(min_length=1)]
    """Slots in which the provider's SDKs send their key, all of them."""
    made: Making | None = None
    """How it is made where the owner has no key, or prefers this."""
    optional: bool = False
    """The provider also serves without a real key (a local Ollama)."""
    client_prefix: str = ""
    """What the local key must begin with for a client that looks at it, e.g. `hf_`."""


class Alias(Model):
    """A form of a path that users are known to write, and the provider's own form.

    `pattern` is a regular expression that must match the whole path (after the prefix, without
    query); `path` its replacement, with `\\1` … for groups. The first alias that matches is
    applied, once.
    """

    pattern: str
    path: str

    @model_validator(mode="after")
    def _compiles(self) -> Alias:
        try:
            groups = re.compile(self.pattern).groups
        except re.error as error:
            raise ValueError(f"{self.pattern!r} is no regular expression: {error}") from None
        if any(int(group) > groups for group in re.findall(r"\\(\d+)", self.path)):
            raise ValueError(f"{self.path!r} names a group that {self.pattern!r} does not have")
        return self


type JsonPath = Annotated[str, Field(pattern=r"^[A-Za-z0-9_./{}\[\]]+$")]
"""Where in JSON values stand: `requests[].params.model`; `[]` stands for each item of a list.
In lists of models `{owner}/{name}` joins two."""


class Requests(Model):
    """Requests within a request: each is judged as if it came by itself.

    In a JSON body they stand at `at`; in an uploaded form they are the lines of its file, where the
    field `field` is one of `values`.
    """

    at: JsonPath | None = None
    """Of each request's body in the JSON body, e.g. `requests[].params`."""
    path: str = ""
    """The provider's path that each is for; empty where each says so itself, as `url`."""
    field: str = ""
    """Name of the form's field that says what a file is for, e.g. `purpose`."""
    values: tuple[str, ...] = ()
    """Its values for files of requests; empty: any."""
    file: str = "file"
    """Name of the form's part with the lines."""
    body: str = "body"
    """Name in a line under which the request's body stands."""
    model_elsewhere: bool = False
    """A request that names no model takes the batch's, which is judged when that is made."""
    elsewhere: bool = False
    """The requests come by other ways than this body (parts of an upload), so they can't be judged:
    where there are rules, such a request is refused."""

    @model_validator(mode="after")
    def _one_place(self) -> Requests:
        if (self.at is None) == (not self.field):
            raise ValueError("requests stand `at` a place of JSON or in a form by its `field`")
        return self


class Owned(Model):
    """A kind of thing that is made under the account and belongs to the user who made it.

    `POST` to one of `paths` makes one, `GET` lists them, everything below `<path>/<id>` is about
    one.
    """

    kind: Annotated[str, Field(pattern=r"^[a-z][a-z-]*$")]
    """For people: `file`, `batch`."""
    paths: Annotated[tuple[Annotated[str, Field(pattern=r"^/")], ...], Field(min_length=1)]
    """Of the collection, `{version}` standing for a segment."""
    at: tuple[JsonPath, ...] = ("id",)
    """Where its id stands in the answer that tells of the new one, or in an event of a stream."""
    listed: tuple[JsonPath, ...] = ("data[].id",)
    """Where the ids stand in a list."""
    made_by: tuple[str, ...] = ()
    """Names of further endpoints whose answers may tell of a new one."""
    id: str = ""
    """Regular expression of its ids; a group is the id within a name such as `files/abc`. Anything
    of this form that a body names is judged."""
    public: str = ""
    """Regular expression of ids that are the provider's own and everybody's."""
    fields: tuple[str, ...] = ()
    """Names of JSON fields and query parameters that hold its id and nothing else."""
    verbs: tuple[str, ...] = ()
    """What may follow the path and is no id."""
    kept: Literal["always", "store: true", "store: not false"] = "always"
    """Whether the provider keeps it: for answers, as the request's body says."""
    yields: dict[str, tuple[JsonPath, ...]] = {}
    """Kind → where, in what tells of one, ids stand of others that the provider made for it."""

    @model_validator(mode="after")
    def _compiles(self) -> Owned:
        for text in (self.id, self.public):
            try:
                groups = re.compile(text).groups
            except re.error as error:
                raise ValueError(f"{text!r} is no regular expression: {error}") from None
            if groups > 1:
                raise ValueError(f"{text!r} has more than one group")
        return self


type AddressPath = Annotated[str, Field(pattern=r"^[A-Za-z0-9_*-]+(?:\[\]|\.[A-Za-z0-9_*-]+)*$")]
"""As a JsonPath; `*` stands for any name: `results[].urls.*`."""


class Address(Model):
    """Where answers name an address of the provider's own that the client will follow with its
    key: it becomes one of the proxy's. Addresses elsewhere, and of hosts that are not the
    provider's, are left as they are. (Headers that name addresses by
    HTTP's own rules, `Location` and `Link`, are known for every provider.)
    """

    endpoints: Annotated[tuple[str, ...], Field(min_length=1)]
    """Names of those that answer so."""
    at: tuple[AddressPath, ...] = ()
    """Where in the JSON of an answer, or of a server-sent event."""
    header: Annotated[str, Field(pattern=_FIELD_NAME)] | None = None
    """Or the header that holds it."""
    others: bool = False
    """What stands there may be the upstream of another provider of this proxy's."""
    bare: bool = False
    """What stands there may be a host alone, such as `index-1.svc.example.io`."""
    keyless_s: int = 0
    """Where the client follows it without its key: for how many seconds the provider takes it. The
    address gets a ticket then, which is good for the user who was given it and no longer."""
    ids: tuple[Annotated[str, Field(pattern=r"^[a-z0-9_]+$")], ...] = ()
    """Query parameters of such addresses, by which one is told: no request has one without a
    ticket."""

    @model_validator(mode="after")
    def _one_place(self) -> Address:
        if bool(self.at) == bool(self.header):
            raise ValueError("an address stands `at` places of JSON or in a `header`")
        if self.ids and not self.keyless_s:
            raise ValueError("`ids` are of addresses that are followed without a key (`keyless_s`)")
        return self


class ModelNames(Model):
    """How a provider writes one model in several ways."""

    prefixes: tuple[str, ...] = ()
    """What may stand before a name and means nothing, e.g. `models/`."""
    suffix: str = ""
    """What parts a name from a variant of it, e.g. `:` in `llama3:8b` or `model:provider`."""
    default: str = ""
    """The variant that a name without one means, e.g. `latest`."""
    opaque: str = ""
    """Regular expression of names that say nothing of the model, such as a version's hash."""

    @model_validator(mode="after")
    def _compiles(self) -> ModelNames:
        try:
            re.compile(self.opaque)
        except re.error as error:
            raise ValueError(f"{self.opaque!r} is no regular expression: {error}") from None
        return self


class Endpoint(Model):
    """An endpoint that matters: the log and the rules know it by name."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    """e.g. `chat`, `embeddings`, `files.content`. Unique within the provider, with its methods."""
    methods: Annotated[tuple[str, ...], Field(min_length=1)] = ("POST",)
    path: Annotated[str, Field(pattern=r"^/")]
    """Pattern of the provider's path: `{name}` matches one segment (or the part of a segment up to
    a literal that follows, as in `/v1beta/models/{model}:generateContent`), `{name...}` one or
    more segments."""
    host: str = ""
    """Which of `named_hosts` has it; empty: the provider's upstream."""
    model: Literal["none", "body", "path", "multipart", "query", "message"] = "none"
    """Where the model's name stands: a field of the JSON body, a part `{model}` of the path, a form
    field of a multipart body, a query parameter, a field of a WebSocket's messages, or nowhere."""
    model_field: str = "model"
    """Name of that field or parameter; of a message, dots lead inwards (`setup.model`). Of a path
    it may join several parts: `{owner}/{model}`."""
    model_also: tuple[JsonPath, ...] = ()
    """Where further models stand in the JSON body, all of which must be allowed: fallbacks, models
    within tools, a model that may be left out."""
    unread: tuple[JsonPath, ...] = ()
    """Where the JSON body names a file of requests whose models are not read: with a value there it
    may use any."""
    modelless: bool = False
    """That nothing below a path with `{…...}` names a model."""
    requests: Requests | None = None
    """Requests that stand in the body of this one: a batch."""
    lists: tuple[JsonPath, ...] = ()
    """For a list of models: where their names stand in the answer, e.g. `data[].id`. The caller is
    shown those that they may use."""
    raw: bool = False
    """Its bodies are files, and never JSON."""
    describes: bool = False
    """It tells of one model, and does not use it."""
    later: bool = False
    """What it begins costs, and is told when that has ended, by another answer."""
    model_type: str = ""
    """Of a message: its `type` where it names the model, e.g. `response.create`; other messages
    do not. Empty: those that have the first part of `model_field`."""
    usage: Flavour = "none"
    """Flavour of the usage in the answer; `none` where nothing is billed for the request itself."""
    include_usage: bool = False
    """Whether its streams say what was used only when asked by `stream_options.include_usage`, and
    then as OpenAI's do: in one more event, with `"usage": null` in the others."""
    include_usage_since: dict[str, str] = {}
    """Query parameter → the least value with which `include_usage` is understood, e.g.
    `api-version: 2024-09-01-preview`."""
    stream: Literal["none", "sse", "ndjson", "binary", "eventstream", "websocket"] = "none"
    """What a streamed answer of this endpoint looks like."""


class Check(Model):
    """A request that costs nothing, and whose answer tells whether the owner's key is good."""

    host: str = ""
    """Which of `named_hosts` answers it; empty: the provider's upstream."""
    method: Literal["GET", "POST"] = "GET"
    path: Annotated[str, Field(pattern=r"^/")]
    """The provider's own, with a query."""
    headers: dict[str, str] = {}
    body: str = ""
    """JSON of a request that is refused for what it lacks, after its key was looked at."""
    good: tuple[int, ...] = ()
    """Statuses, beside those of success, with which a good key is answered."""


class SignIn(Model):
    """A call for a token that the proxy answers itself, with one that stands for the local key."""

    path: Annotated[str, Field(pattern=r"^/")]
    """The provider's own path, e.g. `/oauth2/token`."""
    grants: Annotated[
        tuple[Literal["client-credentials", "jwt-bearer", "token-exchange"], ...],
        Field(min_length=1),
    ]
    """How a client may show its key; see `signin.py`."""
    hosts: tuple[str, ...] = ()
    """Where SDKs that no variable redirects ask for it: for the door."""


class Regions(Model):
    """Hosts of a provider among which the path chooses."""

    path: str
    """Regular expression that the path begins with; its group `region` names the region."""
    upstream: Annotated[str, Field(pattern=r"^https://[a-z0-9.{}-]+$")]
    """Origin of a region, with `{region}`."""
    known: tuple[Annotated[str, Field(pattern=r"^[a-z0-9-]+$")], ...]
    special: dict[str, str] = {}
    """Regions whose origin is another."""

    @model_validator(mode="after")
    def _names_region(self) -> Regions:
        if "region" not in re.compile(self.path).groupindex:
            raise ValueError("`path` has no group `region`")
        return self


class Client(Model):
    """How one SDK or tool is pointed at the proxy."""

    sdk: str
    """Package and language, e.g. `openai (python)`."""
    env: dict[str, str] = {}
    """Environment: `{proxy}` stands for the proxy's URL without a trailing slash, `{authority}` for
    the same without its scheme, `{prefix}` for this provider's prefix, `{key}` for the local key
    (with `client_prefix`), `{key_id}` for its id and `{key_file}` for a credentials file of
    Google's that holds it."""
    code: str = ""
    """For SDKs that no variable redirects: the constructor call to write, same placeholders."""
    door: Literal["front", "second", "none"] = "front"
    """Which door takes its calls, unless its code is changed: the front one, since a variable
    redirects it; the second one, which takes what goes to the provider's own host (`lmk run`); or
    none."""
    why: str = ""
    """Why it is not the front door; where it is none, with the way that works."""
    default: bool = True
    """Whether `llamakey_local.env` holds these lines. At most one provider may set a variable by
    default: the openai SDK's are OpenAI's."""
    tools: tuple[str, ...] = ()
    """Names for `lmk env --for`, beside the provider's id, e.g. `claude-code`."""
    note: str = ""

    @model_validator(mode="after")
    def _says_why(self) -> Client:
        if (self.door == "front") == bool(self.why):
            raise ValueError("`why` stands where `door` is not `front`, and there alone")
        return self


class Entry(Model):
    """One provider."""

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
    name: str
    docs: Annotated[str, Field(pattern=r"^https://")]
    """The provider's API reference."""
    prefix: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    """First segment of the path at the proxy."""
    upstream: Annotated[str, Field(pattern=r"^https?://[a-z0-9.{}:_-]+$")]
    """Origin, without path. `{name}` are variables of `upstream_vars`."""
    upstream_vars: dict[str, Annotated[str, Field(min_length=1)]] = {}
    """Variable of the upstream's host → environment variable that holds it, e.g.
    `resource: AZURE_OPENAI_RESOURCE`. Values are host labels (letters, digits, `-`, `.`), so that
    the domain is always the catalogue's."""
    key_env: tuple[Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")], ...]
    """Environment variables with the owner's real key; the first that is set is taken."""
    credential: Credential
    identity_headers: tuple[Annotated[str, Field(pattern=_FIELD_NAME)], ...] = ()
    """Headers that name an account of the client's; never sent on."""
    identity_subprotocols: tuple[Annotated[str, Field(pattern=_FIELD_NAME)], ...] = ()
    """How subprotocols of a WebSocket begin that do so; never sent on."""
    check: Check | None = None
    """How `lmk doctor` tests the real key."""
    envelope: str
    """Name of an envelope in `envelopes.yaml`: the shape of this provider's errors."""
    aliases: tuple[Alias, ...] = ()
    prices: str = ""
    """Name of the provider in genai-prices, e.g. `google`; `{route}` in it stands for the provider
    behind a router (see `prices.py`). `free` where a request costs nothing by itself; empty where
    there is no public table, so that only `prices` in config.yaml prices it."""
    states_cost: bool = False
    """Whether its answers say what they cost, in dollars: then that is booked, not the table's."""
    encoded_slash: bool = False
    """Whether `%2F` in a path is the provider's own way of writing an id."""
    mints: tuple[Annotated[str, Field(pattern=r"^[A-Z]+ /[^?#]*$")], ...] = ()
    """Requests whose answer is a credential of the account, e.g. `POST /v1/api_keys`: method and
    path glob. Such a credential would serve its holder without this proxy, so only a rule that
    names the path allows them."""
    closed: bool = False
    """Whether nothing but its endpoints is served, unless a rule names the path."""
    model_names: ModelNames = ModelNames()
    sign_in: tuple[SignIn, ...] = ()
    metadata: bool = False
    """Whether SDKs look for Google's metadata server, which the proxy then can be."""
    regions: Regions | None = None
    hosts: tuple[Annotated[str, Field(pattern=r"^[a-z0-9.-]+$")], ...] = ()
    """Further hosts of the provider for which the second door takes the same requests."""
    named_hosts: tuple[Annotated[str, Field(pattern=GLOB)], ...] = ()
    """Further hosts of the provider, or globs of them (`hosts.py`), among which the path chooses:
    its first segment behind the prefix names one, as in `/fal/queue.fal.run/fal-ai/flux`."""
    addresses: tuple[Address, ...] = ()
    """Where answers name the provider's own addresses."""
    owned: tuple[Owned, ...] = ()
    """What users make under the account; each sees their own."""
    endpoints: tuple[Endpoint, ...] = ()
    clients: tuple[Client, ...] = ()
    notes: str = ""

    @model_validator(mode="after")
    def _knows_its_names(self) -> Entry:
        hosts = {endpoint.host for endpoint in self.endpoints}
        hosts |= {self.check.host} if self.check else set()
        if hosts := hosts - {"", *self.named_hosts}:
            raise ValueError(f"`named_hosts` does not have {', '.join(sorted(hosts))}")
        named = {name for address in self.addresses for name in address.endpoints}
        if unknown := named - {endpoint.name for endpoint in self.endpoints}:
            raise ValueError(f"`endpoints` does not have {', '.join(sorted(unknown))}")
        return self


class Envelope(Model):
    """The shape of a provider's error answers.

    Strings of `body` may hold `{message}`, `{code}`, `{type}`, `{status}` and `{id}`; a string that
    is exactly `{status}` becomes a number.
    """

    content_type: str = "application/json"
    body: dict[str, object] | str
    types: dict[int, str] = {}
    """HTTP status → the provider's own word for it, for `{type}`; `types[0]` is the default."""
    stream_event: str = ""
    """Name of the server-sent event that an error within a stream is; empty for one without a name.
    What it holds is `body`, and so is the line of a stream of JSON lines."""
    limits: dict[Annotated[str, Field(pattern=r"^[a-z-]*(\{unit\}[a-z-]*)?$")], str] = {}
    """Headers in which the provider tells of a limit that was reached: `{unit}` in the name is
    `requests` or `tokens`; in the value `{limit}`, `{remaining}`, `{reset}` (as `6m0.5s`) or
    `{reset_at}` (as `2026-11-28T12:00:00Z`)."""
    docs: str = ""
