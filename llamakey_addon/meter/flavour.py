"""What a flavour is, and the tally that is kept of one answer by it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from llamakey_addon.journey import Counts, Headers
from llamakey_addon.meter.asked import Asked
from llamakey_addon.meter.events import data_of
from llamakey_addon.meter.figures import Kind, Path, counts_of, find, merge, path
from llamakey_addon.meter.salvage import documents, head_member, tail_members

_BYTES_PER_TOKEN: Final = 4
_MODEL_TRIES: Final = 8
_MODEL_MAX: Final = 256
_TERM_MAX: Final = 64


class Mark:
    """A member that is worth reading an event for: its name in quotes is in the event, and not only
    with null."""

    __slots__ = ("empty", "needle")

    def __init__(self, name: str) -> None:
        self.needle = b'"%s"' % name.encode()
        self.empty = (self.needle + b":null", self.needle + b": null")

    def within(self, data: bytes) -> bool:
        if self.needle not in data:
            return False
        empties = data.count(self.empty[0]) + data.count(self.empty[1])
        return not empties or empties < data.count(self.needle)


def texts(*names: str) -> re.Pattern[bytes]:
    """Finds the strings of these members, for a running estimate of what was put out."""
    return re.compile(rb'"(?:%s)":\s?"((?:[^"\\]+|\\.)*)"' % "|".join(names).encode())


def guess_tokens(tally: Tally, counts: dict[str, int]) -> None:
    """Input from the request's length; output from the text that passed, a token for four bytes and
    no fewer than pieces."""
    if "input_tokens" not in counts:
        counts["input_tokens"] = tally.asked.input_tokens()
    out = max(tally.pieces, tally.text_bytes // _BYTES_PER_TOKEN)
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
    closing: tuple[bytes, ...] = ()
    """In a stream: what the event with the last figures holds; figures before it are not the whole.
    Empty where any figures are."""
    ends: tuple[bytes, ...] = (b"[DONE]",)
    """What an event holds that ends a stream: after it nothing is missed if the client leaves."""
    adds: bool = False
    """Figures of several objects are added up; else later ones take the place of earlier ones."""
    text: re.Pattern[bytes] | None = None
    """Finds the text that was put out, for estimates. None where the output is not text."""
    guess: Callable[[Tally, dict[str, int]], None] | None = guess_tokens
    """Adds what figures lack that did not come. None where nothing can be guessed."""
    also: Callable[[Tally, Mapping[str, Any]], None] | None = None
    """Reads what tables cannot say, from each document or event that was parsed."""
    heads: Callable[[Tally, Headers], None] | None = None
    """Reads the answer's headers."""
    asks: Callable[[Tally], None] | None = None
    """Counts what the request says of itself, at the end of a successful answer."""
    sent: Callable[[Tally, bytes], None] | None = None
    """Reads what the client sends through a WebSocket."""
    reports: bool = False
    """Figures are of work done before, which can be fetched again: only whole ones count."""
    exact: bool = True
    """Whether figures are taken for the provider's own word."""


@dataclass(slots=True)
class Tally:
    """What was found so far."""

    flavour: Flavour
    asked: Asked
    usage: dict[str, Any] = field(default_factory=dict)
    """Figures as the provider gives them, merged; names with `_` in front are ours."""
    counts: dict[str, int] = field(default_factory=dict)
    """Counts beside those in `usage`, and sums."""
    terms: dict[str, str] = field(default_factory=dict)
    model: str = ""
    job: str = ""
    first: str = ""
    """The first model of several answers in one."""
    mixed: bool = False
    """They are of several models."""
    closed: bool = False
    """The event with the last figures was seen."""
    ended: bool = False
    partial: bool = False
    """A document was too long to be kept, and was read by its ends."""
    failed: bool = False
    """Figures may be missing or wrong: an error midway, an event that could not be read."""
    later: bool = False
    """The work goes on after this answer, and another one will have its figures."""
    said: bool = False
    """The provider gave figures, or the request tells all."""
    pieces: int = 0
    text_bytes: int = 0
    _tries: int = _MODEL_TRIES

    def __post_init__(self) -> None:
        if not self.flavour.model:
            self._tries = 0

    # --- reading ----------------------------------------------------------------------------------

    def block(self, data: bytes, between: bytes) -> None:
        """Complete events (`between` is a blank line) or lines of JSON (a line end)."""
        if not self._tries and not self._tells(data):
            self.listen(data)
            return
        for event in data.split(between):
            if event:
                self._event(event, lines=between == b"\n")

    def _tells(self, data: bytes) -> bool:
        flavour = self.flavour
        for mark in flavour.marks:
            if mark.within(data):
                return True
        return any(end in data for end in flavour.ends)

    def _event(self, event: bytes, *, lines: bool) -> None:
        self.listen(event)
        if not self._tries and not self._tells(event):
            return
        text = event if lines else data_of(event)
        if not text.strip():
            return
        if text.strip() == b"[DONE]":
            self.ended = True
            return
        self.document(text)
        flavour = self.flavour
        if any(mark in text for mark in flavour.closing):
            self.closed = True
        if any(end in text for end in flavour.ends):
            self.ended = True

    def document(self, text: bytes) -> None:
        """One JSON document, or what was kept of it."""
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = self._rescued(text)
        self._take_all(found)

    def whole(self, text: bytes, *, shortened: bool) -> None:
        """A whole answer: a document, a list of them, one after the other; or what came of it."""
        if shortened:
            self._take_all(self._rescued(text))
            return
        try:
            self._take_all(json.loads(text))
        except (ValueError, RecursionError):
            self.failed = True
            for document in documents(text):
                self._take_all(document)

    def message(self, text: bytes) -> None:
        """A message of a WebSocket, from the provider."""
        if self._tries or self._tells(text):
            self.document(text)

    def sent(self, text: bytes) -> None:
        """A message of a WebSocket, from the client."""
        if self.flavour.sent is not None:
            self.flavour.sent(self, text)

    def listen(self, data: bytes) -> None:
        """Count the text in `data`, for estimates."""
        pattern = self.flavour.text
        if pattern is not None:
            for text in pattern.findall(data):
                if text:
                    self.pieces += 1
                    self.text_bytes += len(text)

    def _take_all(self, found: object) -> None:
        for one in found if isinstance(found, list) else (found,):
            if isinstance(one, dict):
                self.take(one)

    def take(self, document: Mapping[str, Any]) -> None:
        """Read one parsed document or event."""
        flavour = self.flavour
        for root in flavour.roots:
            usage = find(document, root)
            if isinstance(usage, dict) and usage:
                if root or counts_of(usage, flavour.kinds):
                    self.said = True
                if flavour.adds:
                    self.add(counts_of(usage, flavour.kinds))
                else:
                    merge(self.usage, usage)
        self._name(document)
        for name, way in flavour.terms:
            value = find(document, way)
            if isinstance(value, str) and 0 < len(value) <= _TERM_MAX:
                self.terms[name] = value
        if document.get("error"):
            self.failed = True
        if flavour.also is not None:
            flavour.also(self, document)

    def add(self, counts: Counts) -> None:
        for name, count in counts.items():
            self.counts[name] = self.counts.get(name, 0) + count

    def _name(self, document: Mapping[str, Any]) -> None:
        for way in self.flavour.model:
            model = find(document, way)
            if isinstance(model, str) and 0 < len(model) <= _MODEL_MAX:
                self.model = model
                self._tries = 0
                return
        if self._tries:
            self._tries -= 1

    def _rescued(self, text: bytes) -> dict[str, Any]:
        """What can be read of a document that is no JSON, since its middle was dropped."""
        flavour = self.flavour
        self.partial = True
        names = [str(root[0 if len(root) == 1 else -1]) for root in flavour.roots if root]
        found = tail_members(text, names)
        document: dict[str, Any] = {**found}
        for root in flavour.roots:
            if len(root) > 1 and root[-1] in found:
                _put(document, root, found[str(root[-1])])
        for way in flavour.model:
            model = found.get(str(way[-1])) or head_member(text, str(way[-1]))
            if isinstance(model, str):
                _put(document, way, model)
                break
        if not found:
            self.failed = True
        return document

    # --- what it comes to -------------------------------------------------------------------------

    def figures(self) -> dict[str, int]:
        """The provider's own figures so far; nothing of what is none."""
        counts = dict(self.counts)
        if self.usage:
            for name, count in counts_of(self.usage, self.flavour.kinds).items():
                counts[name] = counts.get(name, 0) + count
        return {name: count for name, count in counts.items() if count}

    def guessed(self) -> dict[str, int]:
        """The figures so far, and a guess of what they lack."""
        counts = self.figures()
        if self.flavour.guess is not None:
            self.flavour.guess(self, counts)
        return {name: count for name, count in counts.items() if count}


def _put(document: dict[str, Any], way: Path, value: object) -> None:
    for step in way[:-1]:
        inner = document.setdefault(str(step), {})
        document = inner if isinstance(inner, dict) else {}
    document[str(way[-1])] = value
