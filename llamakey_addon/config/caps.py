"""Limits and budgets, from what is written to `Cap`s."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llamakey_addon.config.money import Money
from llamakey_addon.config.money_reader import model_glob_problem
from llamakey_addon.config.people_model import BudgetPart, LimitPart
from llamakey_addon.config.rules import RuleReader, setting_of
from llamakey_addon.config.yamlfile import Document, Place
from llamakey_addon.errors import Fault
from llamakey_addon.journey import Cap, Provider, Unit


class CapsReader:
    """Reads the limits and budgets that stand at one place.

    Arguments:
        place: of the part that holds them.
        subject: whose requests they count; see `Cap.subject`.
    """

    def __init__(
        self,
        place: Place,
        subject: tuple[str, str],
        document: Document,
        providers: Mapping[str, Provider],
        money: Money,
        *,
        named_where: str = "",
    ) -> None:
        self._place = place
        self._subject = subject
        self._document = document
        self._providers = providers
        self._money = money
        self._named_where = named_where
        self.faults: list[Fault] = []
        self.warnings: list[Fault] = []

    def read(self, limits: Sequence[LimitPart], budgets: Sequence[BudgetPart]) -> tuple[Cap, ...]:
        return (
            *(self._limit(("limits", index), part) for index, part in enumerate(limits)),
            *(self._budget(("budgets", index), part) for index, part in enumerate(budgets)),
        )

    def _limit(self, at: Place, part: LimitPart) -> Cap:
        units: dict[Unit, int | None] = {
            "requests": part.requests,
            "tokens": part.tokens,
            "concurrent": part.concurrent,
        }
        given = [unit for unit, most in units.items() if most is not None]
        if len(given) != 1:
            what = f"`{given[0]}` and `{given[1]}` stand in one limit" if given else "no unit"
            self._fault(
                at,
                f"{what}. A limit has one of `requests`, `tokens` and `concurrent`"
                + (": write one for each." if given else "."),
            )
            return self._cap(at, part, "requests", 1)
        unit = given[0]
        if unit == "concurrent" and part.per is not None:
            self._fault((*at, "per"), "`concurrent` is about what runs at once. Remove `per`.")
        if unit != "concurrent" and part.per is None:
            self._fault(at, f"in which time? Add `per`: {{{unit}: {units[unit]}, per: minute}}.")
        return self._cap(at, part, unit, units[unit] or 0)

    def _budget(self, at: Place, part: BudgetPart) -> Cap:
        if part.warn_at != sorted(set(part.warn_at)):
            self._fault((*at, "warn_at"), "write the percentages in rising order, each once.")
        return self._cap(at, part, "nusd", self._money.nusd(part.spend))

    def _cap(self, at: Place, part: LimitPart | BudgetPart, unit: Unit, most: int) -> Cap:
        place = (*self._place, *at)
        reader = RuleReader(place, part, self._document, self._providers)
        rule = reader.read()
        self.faults += reader.faults
        self.warnings += reader.warnings
        if part.tags == [] or part.each == []:
            name = "tags" if part.tags == [] else "each"
            self._fault((*at, name), f"nothing stands here. Remove `{name}`.")
        for index, tag in enumerate(part.tags or ()):
            if model_glob_problem(tag):
                self._fault(
                    (*at, "tags", index), "a tag has no spaces around it and no control characters."
                )
        return Cap(
            setting=self._named_where + setting_of(place),
            subject=self._subject,
            unit=unit,
            most=most,
            window=part.per or "",
            of=rule,
            tags=tuple(part.tags or ()),
            each=tuple(dict.fromkeys(part.each or ())),
            hard=part.hard if isinstance(part, BudgetPart) else True,
            warn_at=tuple(part.warn_at) if isinstance(part, BudgetPart) else (),
        )

    def _fault(self, at: Place, message: str) -> None:
        self.faults.append(Fault(self._document.where((*self._place, *at)), message))
