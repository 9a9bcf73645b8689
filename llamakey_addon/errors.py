"""The tree of everything that LlamaKey refuses.

    LlamaKeyError
    ├── ConfigError                what the owner wrote or set cannot be used; stops a start
    └── Denied                     a request is refused, in the provider's own envelope
        ├── BadRequest        400  the bytes are ambiguous, malformed or forbidden by the protocol
        ├── Unauthenticated   401  no local key, an unknown one, or two that differ
        ├── Forbidden         403  a rule of the owner's stands against it
        │   ├── Spent         403  a budget is used up until it renews
        │   └── Unpriced      403  a budget holds, and nobody knows what the model costs
        ├── UnknownRoute      404  no provider has this prefix
        ├── Absent            404  what somebody else made under the account
        ├── MethodRefused     405  a method that no API uses (TRACE, CONNECT)
        ├── HeadTimeout       408  head or body did not come in time
        ├── ProxyKeyWanted    407  the second door was shown no local key, or none that is valid
        ├── BodyTooLarge      413
        ├── TargetTooLong     414
        ├── Misdirected       421  a tunnel leads to another host than its request is for
        ├── HeadTooLarge      431
        ├── TooMany           429  passing: try again
        ├── Broken            500  a stage of ours failed; the log has the details
        ├── NotCarried        501  HTTP has it, this proxy does not
        ├── UpstreamFault     502  the provider's address, certificate or answer is bad
        ├── NotReady          503  no real key, or not in service
        │   ├── NoCredential  503  the real credential could not be made; perhaps passing
        │   ├── NoLedger      503  passing: what is sent could not be booked
        │   └── Draining      503  passing: the proxy is being restarted
        └── UpstreamTimeout   504  the provider did not answer in time

Every message says what to do next. Nothing in a message may come from a real key.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from llamakey_addon.journey import Visit


class LlamaKeyError(Exception):
    """Root of every error that LlamaKey raises on purpose."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with the configuration, where it stands, and what to do."""

    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


class ConfigError(LlamaKeyError):
    """Every fault of a configuration in one report.

    `faults` keeps them in the order in which they stand in the file.
    """

    def __init__(self, faults: Sequence[Fault] | str) -> None:
        self.faults: tuple[Fault, ...] = (
            (Fault("", faults),) if isinstance(faults, str) else tuple(faults)
        )
        super().__init__("\n".join(str(fault) for fault in self.faults))


class Denied(LlamaKeyError):
    """A request is refused.

    Arguments:
        message: what is wrong and what to do, for the person who sent it.
        setting: the setting that stopped it, as written in config.yaml, or "".
        detail: for the log alone, never for the client.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    #: whether SDKs should try the same request again
    passing: ClassVar[bool] = False

    def __init__(self, message: str, *, setting: str = "", detail: str = "") -> None:
        self.message = message
        self.setting = setting
        self.detail = detail
        self.envelope = ""
        """The shape of its answer, where that is not the provider's usual one."""
        self.visit: Visit | None = None
        """Whose request it is, where that was known before it was refused; for the log."""
        self.key_id = ""
        """The same where no more was known than the id of a valid local key."""
        super().__init__(message)

    @property
    def headers(self) -> Iterable[tuple[str, str]]:
        """Headers of the answer that this denial adds."""
        return ()


class BadRequest(Denied):
    status = 400
    code = "invalid_request"


class Unauthenticated(Denied):
    status = 401
    code = "invalid_api_key"


class Forbidden(Denied):
    status = 403
    code = "permission_denied"


class Spent(Forbidden):
    """Trying again is of no use before `renews_s`, UTC seconds; None: it never renews."""

    code = "budget_spent"

    def __init__(
        self, message: str, *, setting: str, renews_s: int | None = None, detail: str = ""
    ) -> None:
        super().__init__(message, setting=setting, detail=detail)
        self.renews_s = renews_s


class Unpriced(Forbidden):
    code = "unpriced_model"


class UnknownRoute(Denied):
    status = 404
    code = "unknown_route"


class Absent(Denied):
    status = 404
    code = "not_found"


class MethodRefused(Denied):
    status = 405
    code = "method_not_allowed"


class HeadTimeout(Denied):
    status = 408
    code = "request_timeout"


class BodyTooLarge(Denied):
    status = 413
    code = "request_too_large"


class TargetTooLong(Denied):
    status = 414
    code = "target_too_long"


class ProxyKeyWanted(Denied):
    """A CONNECT without a valid local key in its proxy credentials."""

    status = 407
    code = "proxy_key_wanted"

    @property
    def headers(self) -> Iterable[tuple[str, str]]:
        return (("Proxy-Authenticate", 'Basic realm="LlamaKey"'),)


class Misdirected(Denied):
    status = 421
    code = "misdirected_request"


class HeadTooLarge(Denied):
    status = 431
    code = "headers_too_large"


@dataclass(frozen=True, slots=True)
class Rate:
    """A limit as providers tell of theirs in headers."""

    unit: str
    """`requests` or `tokens`."""
    limit: int
    remaining: int
    reset_s: float


class TooMany(Denied):
    """Too many at once; passes after `retry_after_s` seconds.

    Arguments:
        rate: the limit, where it is one that providers have headers for.
    """

    status = 429
    code = "rate_limit_exceeded"
    passing = True

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float = 1,
        rate: Rate | None = None,
        setting: str = "",
        detail: str = "",
    ) -> None:
        super().__init__(message, setting=setting, detail=detail)
        self.retry_after_s = retry_after_s
        self.rate = rate

    @property
    def headers(self) -> Iterable[tuple[str, str]]:
        return (("Retry-After", str(max(1, math.ceil(self.retry_after_s)))),)


class Broken(Denied):
    """A stage raised what it should not. `detail` holds what, scrubbed of keys."""

    status = 500
    code = "internal_error"

    def __init__(self, detail: str) -> None:
        super().__init__(
            "The proxy failed on this request and did not send it. "
            "Give the request id to whoever runs the proxy: the log has the details.",
            detail=detail,
        )


class NotCarried(Denied):
    status = 501
    code = "not_implemented"


class UpstreamFault(Denied):
    status = 502
    code = "upstream_unreachable"
    passing = True


class NotReady(Denied):
    status = 503
    code = "not_ready"


class NoCredential(NotReady):
    """The real credential, which is made for a time, could not be made now.

    Arguments:
        detail: what its maker said, and the remedy: for the owner's log.
        retry_after_s: when another try may succeed; None for never without the owner.
    """

    code = "credential_unavailable"

    def __init__(
        self, provider: str, *, detail: str, setting: str = "", retry_after_s: int | None = None
    ) -> None:
        again = "Try again soon" if retry_after_s is not None else "Tell the proxy's owner"
        super().__init__(
            f"The proxy can't get its credential for {provider} at the moment. {again}; the "
            "proxy's log says why.",
            setting=setting,
            detail=detail,
        )
        self._retry_after_s = retry_after_s
        self.passing = retry_after_s is not None  # type: ignore[misc]

    @property
    def headers(self) -> Iterable[tuple[str, str]]:
        wait_s = self._retry_after_s
        return () if wait_s is None else (("Retry-After", str(wait_s)),)


class Draining(NotReady):
    """The proxy is being stopped; another, or the next one, takes the request."""

    code = "draining"
    passing = True

    def __init__(self) -> None:
        super().__init__("The proxy is being restarted and takes no new requests. Try again.")

    @property
    def headers(self) -> Iterable[tuple[str, str]]:
        return (("Retry-After", "1"),)


class NoLedger(NotReady):
    """Nothing is sent that can't be booked."""

    code = "ledger_unavailable"
    passing = True

    def __init__(self, detail: str) -> None:
        super().__init__(
            "The proxy can't write its ledger at the moment, so it sends nothing. Try again soon; "
            "if it stays so, tell its owner: the log says why.",
            detail=detail,
        )

    @property
    def headers(self) -> Iterable[tuple[str, str]]:
        return (("Retry-After", "5"),)


class UpstreamTimeout(Denied):
    status = 504
    code = "upstream_timeout"
