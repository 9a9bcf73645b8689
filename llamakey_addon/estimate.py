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

from llamakey_addon import documents
from llamakey_addon.catalogue.models import Endpoint
from llamakey_addon.errors import BadRequest
from llamakey_addon.journey import Call, Counts, Metered, Within
from llamakey_addon.meter import Asked, meter_for
from llamakey_addon.meter.flavour import guess_tokens
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
_BOUNDS_BY_NAME: Final = {
    first: tuple(way for way in _BOUNDS if way[0] == first) for first, *_ in _BOUNDS
}
#: How many answers are asked for at once.
_CHOICES: Final = (("n",), ("num_generations",), ("generationConfig", "candidateCount"))
_USUAL_OUTPUT_TOKENS: Final = 500
_BYTES_PER_TOKEN: Final = 4
_NEWEST_WEIGHT: Final = 0.1
_KEPT: Final = 20_000
_EVERYBODY: Final = ""


class Habit:
    """What requests of one kind came to: means, and mean distances from them."""

    __slots__ = ("cost", "cost_off", "n", "output", "output_off", "ratio", "ratio_off")

    def __init__(self, figures: Mapping[str, float] | None = None) -> None:
        for name in self.__slots__:
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
        self.n = min(self.n + 1, 1 / _NEWEST_WEIGHT)
        self.output, self.output_off = self._moved(self.output, self.output_off, output)
        self.cost, self.cost_off = self._moved(self.cost, self.cost_off, cost)
        if ratio is not None:
            self.ratio, self.ratio_off = self._moved(self.ratio, self.ratio_off, ratio)

    def _moved(self, mean: float, off: float, value: float) -> tuple[float, float]:
        if self.n == 1 or not (mean or off):
            return value, off
        weight = 1 / self.n
        return mean + weight * (value - mean), off + weight * (abs(value - mean) - off)

    def figures(self) -> dict[str, float]:
        return {name: round(getattr(self, name), 6) for name in self.__slots__}


class Estimates:
    """What was learned, by kind of request."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._habits: OrderedDict[tuple[str, str, str, str], Habit] = OrderedDict()

    def counts(self, call: Call, asked: Asked, *, closely: bool) -> dict[str, int]:
        """What a request will probably use.

        Arguments:
            closely: read the request for it: what it says of itself (images, characters), and what
                bounds the answer. Else there are tokens in and out alone.
        """
        endpoint = call.visit.route.endpoint
        if closely and _says_more(endpoint):
            counts = dict(meter_for(endpoint, 200, (), asked).end(complete=False).counts)
        else:
            counts = {"input_tokens": asked.input_tokens()}
        habit = self._known(call.visit.user.key_id, _kind(call))
        if "input_tokens" in counts and habit.n and habit.ratio:
            ratio = habit.ratio + habit.ratio_off
            counts["input_tokens"] = math.ceil(counts["input_tokens"] * ratio)
        output = _usual_output(endpoint)
        if habit.n:
            output = math.ceil(habit.output + habit.output_off)
        elif output and closely:
            output *= _choices(asked)
        bound = _bound(asked) if output and closely else None
        if bound is not None:
            output = min(output, bound * _choices(asked))
        if output:
            counts["output_tokens"] = output
        return counts

    def within(self, call: Call, part: Within) -> dict[str, int]:
        """What requests within a request will probably use, all of them together."""
        endpoint = part.endpoint
        name = "" if endpoint is None else endpoint.name
        kind = (call.visit.route.provider.id, name, part.model)
        habit = self._known(call.visit.user.key_id, kind)
        ratio = habit.ratio + habit.ratio_off if habit.n and habit.ratio else 1
        output = habit.output + habit.output_off if habit.n else _usual_output(endpoint)
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
        for key_id in (call.visit.user.key_id, _EVERYBODY):
            habit = self._habit(key_id, _kind(call))
            habit.learn(counts.get("output_tokens", 0), ratio, cost_nusd)
            self._ledger.remember(key_id, *_kind(call), habit.figures)

    def _known(self, key_id: str, kind: tuple[str, str, str]) -> Habit:
        """The key's own habit, or everybody's; one of nothing where nobody has any."""
        habit = self._habit(key_id, kind)
        return habit if habit.n else self._habit(_EVERYBODY, kind)

    def _habit(self, key_id: str, kind: tuple[str, str, str]) -> Habit:
        name = (key_id, *kind)
        habit = self._habits.get(name)
        if habit is None:
            try:
                habit = Habit(self._ledger.learned(*name))
            except StoreError:
                return Habit()  # nothing is known for now
            self._habits[name] = habit
            if len(self._habits) > _KEPT:
                self._habits.popitem(last=False)
        else:
            self._habits.move_to_end(name)
        return habit


def _kind(call: Call) -> tuple[str, str, str]:
    route = call.visit.route
    endpoint = "" if route.endpoint is None else route.endpoint.name
    return route.provider.id, endpoint, call.model


def _usual_output(endpoint: Endpoint | None) -> int:
    """For a kind of answer that nobody has seen yet."""
    flavour = None if endpoint is None else FLAVOURS.get(endpoint.usage)
    return _USUAL_OUTPUT_TOKENS if flavour is None or flavour.text is not None else 0


def _says_more(endpoint: Endpoint | None) -> bool:
    """Whether a request says more of its use than how long it is."""
    flavour = None if endpoint is None else FLAVOURS.get(endpoint.usage)
    return flavour is None or flavour.asks is not None or flavour.guess is not guess_tokens


def _bound(asked: Asked) -> int | None:
    """The least of what bounds an answer's length."""
    document = _parameters(asked)
    least = None
    for first in _BOUNDS_BY_NAME.keys() & document.keys():
        for way in _BOUNDS_BY_NAME[first]:
            value = _number(document, way)
            if value is not None and (least is None or value < least):
                least = value
    return least


def _parameters(asked: Asked) -> Mapping[str, object]:
    """The body's outermost members, by what was read of it when it was judged."""
    if asked.plain:
        try:
            document = documents.read(asked.plain)
        except BadRequest:
            return asked.document
        if isinstance(document, documents.Object):
            return dict(document)
    return asked.document


def _choices(asked: Asked) -> int:
    document = _parameters(asked)
    return max(
        (_number(document, way) or 1 for way in _CHOICES if way[0] in document),
        default=1,
    )


def _number(document: Mapping[str, object], way: tuple[str, ...]) -> int | None:
    value: object = document
    for name in way:
        if isinstance(value, documents.Object):
            value = dict(value)
        value = value.get(name) if isinstance(value, dict) else None
    return value if type(value) is int and 0 < value <= 10_000_000 else None
