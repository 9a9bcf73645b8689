"""What a flavour is: how one kind of answer says what was used."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llamakey_addon.meter.figures import Kind, Path, path

if TYPE_CHECKING:
    from llamakey_addon.meter.tally import Tally

type Named = Mapping[bytes, bytes]
"""An answer's headers by their names in lower case, the first of each."""


class Mark:
    """A member that is worth reading an event for: its name in quotes is in the event, and not only
    with null."""

    __slots__ = ("empty", "needle")

    def __init__(self, name: str) -> None:
        self.needle = b'"%s"' % name.encode()
        self.empty = (self.needle + b":null", self.needle + b": null")

    def within(self, data: bytes) -> bool:
        # `find` and `count` take a third of the time of `in` here
        found = data.count(self.needle)
        return found > 0 and found > data.count(self.empty[0]) + data.count(self.empty[1])


def texts(*names: str) -> re.Pattern[bytes]:
    """Finds the strings of these members, for a running estimate of what was put out."""
    # possessive: a string that is cut off must not be tried in every way it could be taken apart
    text = rb'([^"\\]*+(?:\\.[^"\\]*+)*+)'
    return re.compile(rb'"(?:%s)":\s?"%s"' % ("|".join(names).encode(), text), re.DOTALL)


def guess_tokens(tally: Tally, counts: dict[str, int]) -> None:
    """Input from the request's length; output from the text that passed, a token for four bytes and
    no fewer than pieces."""
    if "input_tokens" not in counts:
        counts["input_tokens"] = tally.asked.input_tokens()
    out = tally.heard_tokens
    if out > counts.get("output_tokens", 0):
        counts["output_tokens"] = out


@dataclass(frozen=True, slots=True)
class Flavour:
    """How one kind of answer says what was used."""

    roots: tuple[Path, ...] = (path("usage"),)
    """Where objects with figures stand, in a document or an event; all that are there are read.
    `()` is the document itself."""
    kinds: tuple[Kind, ...] = ()
    """What of them is counted."""
    model: tuple[Path, ...] = (path("model"),)
    terms: tuple[tuple[str, Path], ...] = ()
    """What else the price hangs on: name, and where in the document it stands."""
    marks: tuple[Mark, ...] = (Mark("usage"), Mark("error"))
    """An event without any of them is not parsed."""
    lazy: bool = False
    """An event that has only the first of the marks takes the place of earlier ones: of those that
    come with every piece of text, only the last is parsed."""
    closing: tuple[bytes, ...] = ()
    """In a stream: what the event with the last figures holds; figures before it are not the whole.
    Empty where any figures are."""
    ends: tuple[bytes, ...] = (b"[DONE]",)
    """What an event holds that ends a stream: after it nothing is missed if the client leaves."""
    adds: bool = False
    """Figures of several objects are added up; else later ones take the place of earlier ones."""
    text: re.Pattern[bytes] | None = None
    """Finds the text that was put out, for estimates. None where the output is not text."""
    whole_text: re.Pattern[bytes] | None = None
    """The same in an answer that is no stream, where its words are others."""
    by_its_end: bool = False
    """A long answer is read by its end alone: all that matters stands there."""
    guess: Callable[[Tally, dict[str, int]], None] | None = guess_tokens
    """Adds what figures lack that did not come. None where nothing can be guessed."""
    also: Callable[[Tally, Mapping[str, Any]], None] | None = None
    """Reads what tables cannot say, from each document or event that was parsed."""
    heads: Callable[[Tally, Named], None] | None = None
    """Reads the answer's headers."""
    asks: Callable[[Tally], None] | None = None
    """Counts what the request says of itself, at the end of a successful answer."""
    sent: Callable[[Tally, bytes], None] | None = None
    """Reads what the client sends through a WebSocket."""
    lines: bool = False
    """It is lines of JSON or nothing, whatever the answer says that it is."""
    errors: bool = True
    """Whether an `error` in a document means that figures are missing."""
    binary: bool = False
    """Binary messages of a WebSocket are JSON too, as Google sends it."""
    reports: bool = False
    """Figures are of work done before, which can be fetched again: only whole ones count."""
    exact: bool = True
    """Whether figures are taken for the provider's own word."""
    needles: tuple[bytes, ...] = field(init=False)
    """One of them is in all that is worth parsing."""

    def __post_init__(self) -> None:
        needles = (*self.ends, *(mark.needle for mark in self.marks))
        object.__setattr__(self, "needles", needles)
