"""Money and metering, as the proxy runs by them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from decimal import ROUND_FLOOR, Decimal

_NUSD = 10**9


@dataclass(frozen=True, slots=True)
class Money:
    """The owner's currency, beside the nano-dollars that everything is counted in."""

    currency: str = "USD"
    per_usd: Decimal = Decimal(1)
    """Units of the currency for a dollar."""
    zone: str = "UTC"
    """Name of the time zone in which budgets' days begin."""
    time_zone: tzinfo = field(default=UTC, compare=False)

    def nusd(self, amount: float | Decimal) -> int:
        """An amount of the currency in nano-dollars, rounded down."""
        exact = Decimal(str(amount)) / self.per_usd * _NUSD
        return int(exact.to_integral_value(ROUND_FLOOR))

    def amount(self, nusd: int) -> Decimal:
        """Nano-dollars in the currency."""
        return Decimal(nusd) * self.per_usd / _NUSD

    def shown(self, nusd: int) -> str:
        """For people, e.g. `USD 1.25`, and with as many digits as a small amount needs."""
        amount = self.amount(nusd)
        if amount == 0 or abs(amount) >= Decimal("0.995"):
            return f"{self.currency} {amount:.2f}"
        return (
            f"{self.currency} {amount:.3g}"
            if abs(amount) >= Decimal("0.001")
            else (f"{self.currency} {amount:.6f}")
        )


@dataclass(frozen=True, slots=True)
class Metering:
    """What is done with what is counted; `MeteringPart` says what each is."""

    cut_streams: bool
    show_left: bool
    tag_header: str
