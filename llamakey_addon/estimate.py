"""What a request will probably use, learned from what the same key has used before.

For each key, provider, endpoint and model the mean of what came out is kept, and how far apart the
figures were, newer requests weighing more; of what went in, how it compares with the guess that its
bytes allow. The estimate is mean plus deviation, never nothing and never the worst case: with caps
on money or tokens a request reserves it, and settles to the truth. Where a key is new to a model,
what all keys did with it stands in; where nobody has used it, a plain figure. `max_tokens` and its
kin bound it from above.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final
from weakref import WeakValueDictionary

from llamakey_addon import documents
from llamakey_addon.errors import BadRequest
from llamakey_addon.journey import Call, Counts, Metered, Within
from llamakey_addon.meter import Asked, meter_for
from llamakey_addon.meter.flavour import Flavour, guess_tokens
from llamakey_addon.meter.flavours import FLAVOURS
from llamakey_addon.store import StoreError
from llamakey_addon.store.ledger import Ledger

#: Parameters that bound what comes out, in any provider's API, and where they stand in it.
_BOUNDS: Final = (
    ("max_tokens",),
    ("max_completion_tokens",),
    ("max_output_tokens",),
    ("max_new_tokens",),
    ("num_predict",),
    ("maxOutputTokens",),
    ("generationConfig", "maxOutputTokens"),
    ("generation_config", "max_output_tokens"),
    ("options", "num_predict"),
    ("parameters", "max_new_tokens"),
    ("input", "max_tokens"),
    ("input", "max_new_tokens"),
    ("inferenceConfig", "maxTokens"),
    ("generation", "model_parameters", "max_tokens"),
)
#: How many answers are asked for at once.
_CHOICES: Final = (("n",), ("num_generations",), ("generationConfig", "candidateCount"))
_ASKED_BY_NAME: Final = {
    name: (
        tuple(way for way in _BOUNDS if way[0] == name),
        tuple(way for way in _CHOICES if way[0] == name),
    )
    for name, *_ in _BOUNDS + _CHOICES
}
_USUAL_OUTPUT_TOKENS: Final = 500
_BYTES_PER_TOKEN: Final = 4
_MOST: Final = 10.0
"""The newest of so many weighs a tenth, and so does each that comes later."""
_KEPT: Final = 20_000
_EVERYBODY: Final = ""


class Habit:
    """What requests of one kind came to: means, and mean distances from them."""

    __slots__ = (
        *("__weakref__", "cost", "cost_off", "n"),
        *("output", "output_off", "ratio", "ratio_off"),
    )

    def __init__(self, figures: Mapping[str, float] | None = None) -> None:
        for name in _FIGURES:
            setattr(self, name, float((figures or {}).get(name, 0.0)))

    n: float
    """How many, up to where the newest weighs as much as it ever does."""
    output: float
    """Tokens."""
    output_off: float
    ratio: float
    """Of input tokens to those guessed from the request's bytes."""
    ratio_off: float
    cost: float
    """Nano-dollars."""
    cost_off: float

    def learn(self, output: float, ratio: float | None, cost: float) -> None:
        n = self.n = self.n + 1 if self.n < _MOST else _MOST
        self.output, self.output_off = _moved(self.output, self.output_off, output, n)
        self.cost, self.cost_off = _moved(self.cost, self.cost_off, cost, n)
        if ratio is not None:
            self.ratio, self.ratio_off = _moved(self.ratio, self.ratio_off, ratio, n)

    def figures(self) -> dict[str, float]:
        return {name: round(getattr(self, name), 6) for name in _FIGURES}


_FIGURES: Final = ("cost", "cost_off", "n", "output", "output_off", "ratio", "ratio_off")


def _moved(mean: float, off: float, value: float, n: float) -> tuple[float, float]:
    """Mean and mean distance after the `n`th value."""
    if n == 1 or not (mean or off):
        return value, off
    by = value - mean
    return mean + by / n, off + ((by if by > 0 else -by) - off) / n


class Estimates:
    """What was learned, by kind of request."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._habits: OrderedDict[tuple[str, str, str, str], tuple[Habit, Habit]] = OrderedDict()
        """The key's own, and everybody's of that kind, which is one for all keys."""
        self._everybodys: WeakValueDictionary[tuple[str, str, str], Habit] = WeakValueDictionary()

    def counts(self, call: Call, asked: Asked, *, closely: bool) -> dict[str, int]:
        """What a request will probably use.

        Arguments:
            closely: read the request for it: what it says of itself (images, characters), and what
                bounds the answer. Else there are tokens in and out alone.
        """
        endpoint = call.visit.route.endpoint
        says_more, output = _OTHERS if endpoint is None else _USUAL.get(endpoint.usage, _OTHERS)
        if closely and says_more:
            counts = dict(meter_for(endpoint, 200, (), asked).end(complete=False).counts)
        else:
            counts = {"input_tokens": asked.input_tokens()}
        habit = self._known(call.visit.user.key_id, _kind(call))
        if habit.n and habit.ratio and "input_tokens" in counts:
            ratio = habit.ratio + habit.ratio_off
            counts["input_tokens"] = math.ceil(counts["input_tokens"] * ratio)
        if habit.n:
            output = math.ceil(habit.output + habit.output_off)
        if output and closely:
            bound, choices = _asked_for(asked)
            if not habit.n:
                output *= choices
            if bound is not None and output > bound * choices:
                output = bound * choices
        if output:
            counts["output_tokens"] = output
        return counts

    def within(self, call: Call, part: Within) -> dict[str, int]:
        """What requests within a request will probably use, all of them together."""
        endpoint = part.endpoint
        name, usage = ("", "") if endpoint is None else (endpoint.name, endpoint.usage)
        kind = (call.visit.route.provider.id, name, part.model)
        _, usual = _USUAL.get(usage, _OTHERS)
        habit = self._known(call.visit.user.key_id, kind)
        ratio = habit.ratio + habit.ratio_off if habit.n and habit.ratio else 1
        output = habit.output + habit.output_off if habit.n else usual
        return {
            "input_tokens": math.ceil(part.body_bytes / _BYTES_PER_TOKEN * ratio),
            "output_tokens": math.ceil(output * part.requests),
        }

    def cost_nusd(self, call: Call) -> int:
        """What such requests have cost until now; 0 where nobody has made one."""
        habit = self._known(call.visit.user.key_id, _kind(call))
        return math.ceil(habit.cost + habit.cost_off) if habit.n else 0

    def learn(self, call: Call, asked: Asked, metered: Metered, cost_nusd: int) -> None:
        """What a request has come to. Only whole answers teach."""
        if not metered.exact or not metered.counts:
            return
        counts: Counts = metered.counts
        guess = asked.input_tokens()
        ratio = counts.get("input_tokens", 0) / guess if guess else None
        output = counts.get("output_tokens", 0)
        kind = _kind(call)
        key_id = call.visit.user.key_id
        own, everybodys = self._of(key_id, kind)
        own.learn(output, ratio, cost_nusd)
        everybodys.learn(output, ratio, cost_nusd)
        self._ledger.remember(key_id, *kind, own.figures)
        self._ledger.remember(_EVERYBODY, *kind, everybodys.figures)

    def _known(self, key_id: str, kind: tuple[str, str, str]) -> Habit:
        """The key's own habit, or everybody's; one of nothing where nobody has any."""
        own, everybodys = self._of(key_id, kind)
        return own if own.n else everybodys

    def _of(self, key_id: str, kind: tuple[str, str, str]) -> tuple[Habit, Habit]:
        """The key's own habit, and everybody's."""
        name = (key_id, *kind)
        habits = self._habits.get(name)
        if habits is not None:
            self._habits.move_to_end(name)
            return habits
        try:
            own = Habit(self._ledger.learned(*name))
            everybodys = self._everybodys.get(kind)
            if everybodys is None:
                everybodys = Habit(self._ledger.learned(_EVERYBODY, *kind))
        except StoreError:
            return Habit(), Habit()  # nothing is known for now
        self._everybodys[kind] = everybodys
        self._habits[name] = (own, everybodys)
        if len(self._habits) > _KEPT:
            self._habits.popitem(last=False)
        return own, everybodys


def _kind(call: Call) -> tuple[str, str, str]:
    route = call.visit.route
    endpoint = "" if route.endpoint is None else route.endpoint.name
    return route.provider.id, endpoint, call.model


def _usual(flavour: Flavour) -> tuple[bool, int]:
    """Whether a request says more of its use than how long it is; and how many tokens come out, of
    a kind of answer that nobody has seen yet."""
    says_more = flavour.asks is not None or flavour.guess is not guess_tokens
    return says_more, 0 if flavour.text is None else _USUAL_OUTPUT_TOKENS


_USUAL: Final = {name: _usual(flavour) for name, flavour in FLAVOURS.items()}
_OTHERS: Final = (True, _USUAL_OUTPUT_TOKENS)
"""Of what no flavour is known."""


def _asked_for(asked: Asked) -> tuple[int | None, int]:
    """The least of what bounds an answer's length, and how many answers are asked for."""
    document = _parameters(asked)
    least, choices = None, 1
    for name in _ASKED_BY_NAME.keys() & document.keys():
        bounds, counts = _ASKED_BY_NAME[name]
        for way in bounds:
            value = _number(document, way)
            if value is not None and (least is None or value < least):
                least = value
        for way in counts:
            choices = max(choices, _number(document, way) or 1)
    return least, choices


def _parameters(asked: Asked) -> Mapping[str, object]:
    """The body's outermost members, by what was read of it when it was judged."""
    if plain := asked.plain:
        try:
            document = documents.read(plain)
        except BadRequest:
            return asked.document
        if isinstance(document, documents.Object):
            return dict(document)
    return asked.document


def _number(document: Mapping[str, object], way: tuple[str, ...]) -> int | None:
    value: object = document.get(way[0])
    for name in way[1:]:
        if isinstance(value, documents.Object):
            value = dict(value)
        value = value.get(name) if isinstance(value, dict) else None
    return value if type(value) is int and 0 < value <= 10_000_000 else None
