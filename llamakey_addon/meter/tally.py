"""The tally of one answer: what was found of its figures, and what is guessed without them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from llamakey_addon.journey import Counts
from llamakey_addon.meter.asked import Asked
from llamakey_addon.meter.events import data_of
from llamakey_addon.meter.figures import Path, counts_of, find, merge, parsed
from llamakey_addon.meter.flavour import Flavour
from llamakey_addon.meter.salvage import documents, head_member, tail_member

BYTES_PER_TOKEN: Final = 4
_MODEL_TRIES: Final = 8
_MODEL_MAX: Final = 256
_TERM_MAX: Final = 64
_HEARD_BYTES: Final = 2 * 1024
#: So many batches of that are all searched, before a quarter is.
_WHOLLY: Final = 16
_BEHIND: Final = 16
_BY_ITS_END_BYTES: Final = 64 * 1024
_NOTHING: Final = 0
_LATER: Final = 1
_SOMETHING: Final = 2


@dataclass(slots=True)
class Tally:
    """What was found so far."""

    flavour: Flavour
    asked: Asked
    usage: dict[str, Any] = field(default_factory=dict)
    """Figures as the provider gives them, merged; names with `_` in front are ours. It is changed
    by `merge`, `put` and `clear` alone."""
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
    pattern: re.Pattern[bytes] | None = None
    """Finds text in this answer."""
    told: int = 0
    """It grows with whatever the provider tells of figures."""
    heard: int = 0
    """Bytes in which there may be text."""
    _pieces: int = 0
    _text_bytes: int = 0
    _heard: list[bytes] = field(default_factory=list)
    """What passed and was not yet searched for text; often it never has to be."""
    _searched: int = 0
    """How much of it was, of `heard`."""
    _batches: int = 0
    _rate: tuple[int, int, int] = (0, 0, 1)
    """Pieces and bytes of text in so many bytes, when they were last searched."""
    _latest: tuple[bytes, bytes] | None = None
    """The last block that is only parsed if no later one comes, and what parts its events."""
    _behind: int = 0
    """How many such blocks came since one was parsed."""
    _counted: dict[str, int] | None = None
    """The counts of `usage`, where it is as it was when they were read."""
    _figures: dict[str, int] | None = None
    _tries: int = _MODEL_TRIES

    def __post_init__(self) -> None:
        self.pattern = self.flavour.text
        if not self.flavour.model:
            self._tries = 0

    # --- reading ----------------------------------------------------------------------------------

    def block(self, data: bytes, between: bytes) -> None:
        """Complete events (`between` is a blank line) or lines of JSON (a line end)."""
        if not self._tries:
            for needle in self.flavour.needles:
                if data.find(needle) >= 0:
                    break
            else:  # as in nearly every piece of a stream: text alone
                if self.pattern is not None:
                    self._heard.append(data)
                    self.heard += len(data)
                    if self.heard - self._searched > _HEARD_BYTES:
                        self._sample()
                return
            told = self._told(data)
            if told == _NOTHING:
                self.listen(data)
                return
            if told == _LATER:
                self._latest = (data, between)
                self._behind += 1
                self.told += 1
                self.listen(data)
                return
        self.catch_up()
        self._events(data, between)

    def _told(self, data: bytes) -> int:
        """Whether a block is worth parsing."""
        flavour = self.flavour
        for end in flavour.ends:
            if data.find(end) >= 0:
                return _SOMETHING
        lazy = flavour.lazy
        told = _NOTHING
        for mark in flavour.marks:
            if data.find(mark.needle) >= 0 and mark.within(data):
                if not lazy:
                    return _SOMETHING
                told = _LATER
            lazy = False
        return told

    def _events(self, data: bytes, between: bytes) -> None:
        self.listen(data)
        for event in data.split(between):
            if event and (self._tries or self._told(event) != _NOTHING):
                self._event(event if between == b"\n" else data_of(event))

    def catch_up(self) -> None:
        """Parse what was put off."""
        if self._latest is not None:
            (data, between), self._latest = self._latest, None
            self._behind = 0
            for event in data.split(between):
                if event:
                    self._event(event if between == b"\n" else data_of(event))

    def _event(self, text: bytes) -> None:
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
        """One JSON document, or what was kept of it. What does not begin as one is none."""
        if not text.lstrip().startswith((b"{", b"[")):
            return
        try:
            found = parsed(text)
        except (ValueError, RecursionError):
            found = self._rescued(text)
        self._take_all(found)

    def whole(self, text: bytes, *, shortened: bool) -> None:
        """A whole answer: a document, a list of them, one after the other; or what came of it."""
        if self.flavour.by_its_end and len(text) > _BY_ITS_END_BYTES:
            self._take_all(self._rescued(text))
            if self.said or shortened:
                return
            self.failed = False
        elif shortened:
            self._take_all(self._rescued(text))
            return
        try:
            found = parsed(text)
        except (ValueError, RecursionError):
            self.failed = True
            for document in documents(text):
                self._take_all(document)
            return
        self._take_all(found)

    def message(self, text: bytes) -> None:
        """A message of a WebSocket, from the provider."""
        if self._tries or self._told(text) != _NOTHING:
            self.document(text)

    def sent(self, text: bytes) -> None:
        """A message of a WebSocket, from the client."""
        if self.flavour.sent is not None:
            self._figures = None
            self.flavour.sent(self, text)

    def ask(self) -> None:
        """Count what the request says, at the end of an answer."""
        if self.flavour.asks is not None:
            self.catch_up()
            self._figures = None
            self.flavour.asks(self)

    def listen(self, data: bytes) -> None:
        """Keep the text in `data` for estimates."""
        if self.pattern is not None:
            self._heard.append(data)
            self.heard += len(data)
            if self.heard - self._searched > _HEARD_BYTES:
                self._sample()

    def heard_anew(self, data: bytes) -> None:
        """All that was listened to, once more: a text may have stood across two pieces."""
        self._heard = []
        self._pieces = self._text_bytes = self._batches = 0
        self._searched = self.heard
        self.listen(data)

    def _search(self) -> tuple[int, int]:
        """Search what was heard for text: pieces and bytes."""
        pattern = self.pattern
        if pattern is None or not self._heard:
            return 0, 0
        found = pattern.findall(b"".join(self._heard))
        self._heard.clear()
        self._searched = self.heard
        pieces, size = len(found) - found.count(b""), sum(map(len, found))
        self._pieces += pieces
        self._text_bytes += size
        return pieces, size

    def _sample(self) -> None:
        """Of a long stream a quarter is searched, and the rest taken to be like it."""
        self._batches += 1
        if self._batches > _WHOLLY and self._batches % 4:
            pieces, size, of = self._rate
            more = self.heard - self._searched
            self._pieces += pieces * more // of
            self._text_bytes += size * more // of
            self._heard.clear()
            self._searched = self.heard
        else:
            of = self.heard - self._searched
            self._rate = (*self._search(), of)

    @property
    def heard_tokens(self) -> int:
        """An estimate of the tokens that came out: one for four bytes, and no fewer than pieces."""
        self._search()
        return max(self._pieces, self._text_bytes // BYTES_PER_TOKEN)

    def _take_all(self, found: object) -> None:
        if type(found) is dict:
            self.take(found)
            return
        for one in found if isinstance(found, list) else ():
            if isinstance(one, dict):
                self.take(one)

    def take(self, document: Mapping[str, Any]) -> None:
        """Read one parsed document or event."""
        flavour = self.flavour
        self._figures = None
        self.told += 1
        for root in flavour.roots:
            if root and type(root[0]) is str and root[0] not in document:
                continue
            usage = find(document, root)
            if isinstance(usage, dict) and usage:
                if flavour.adds:
                    counts = counts_of(usage, flavour.kinds)
                    self.said |= bool(counts)
                    self.add(counts)
                else:
                    self._take_usage(usage)
        self._name(document)
        for name, way in flavour.terms:
            if type(way[0]) is str and way[0] not in document:
                continue
            value = find(document, way)
            if isinstance(value, str) and 0 < len(value) <= _TERM_MAX:
                self.terms[name] = value
        if flavour.errors and "error" in document and document["error"]:
            self.failed = True
        if flavour.also is not None:
            flavour.also(self, document)

    def _take_usage(self, usage: Mapping[str, Any]) -> None:
        """Figures, most often the only ones of an answer: what they come to is kept."""
        first = not self.usage
        if first or not self.said:
            counts = counts_of(usage, self.flavour.kinds)
            self.said |= bool(counts)
        self.merge(usage)
        if first:
            self._counted = counts

    def merge(self, usage: Mapping[str, Any]) -> None:
        """Take in figures of the provider's."""
        self._counted = None
        merge(self.usage, usage)

    def put(self, name: str, value: object) -> None:
        """A figure that stands elsewhere, as if it were among them."""
        self._counted = None
        self.usage[name] = value

    def clear(self) -> None:
        """The figures are none, or another answer's."""
        self._counted = None
        self.usage.clear()
        self.said = False

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
        document: dict[str, Any] = {}
        for root in flavour.roots:
            if root and (found := tail_member(text, _names(root))) is not None:
                _put(document, root, found)
        if not document:
            self.failed = True
        for way in flavour.model:
            model = tail_member(text, _names(way)) or head_member(text, _names(way))
            if isinstance(model, str):
                _put(document, way, model)
                break
        return document

    # --- what it comes to -------------------------------------------------------------------------

    def figures(self) -> dict[str, int]:
        """The provider's own figures so far; nothing of what is none."""
        self.catch_up()
        if self._figures is None:
            counts = self._counted
            if counts is None:
                counts = self._counted = counts_of(self.usage, self.flavour.kinds)
            if self.counts:
                counts = dict(counts)
                for name, count in self.counts.items():
                    counts[name] = counts.get(name, 0) + count
            self._figures = {name: count for name, count in counts.items() if count}
        return dict(self._figures)

    def guessed(self) -> dict[str, int]:
        """The figures so far, and a guess of what they lack."""
        counts = self.figures()
        if self.flavour.guess is not None:
            self.flavour.guess(self, counts)
        return {name: count for name, count in counts.items() if count}

    def so_far(self) -> dict[str, int]:
        """The same, by figures that may be a few pieces old; the text since then is guessed."""
        if not self.said or self._behind >= _BEHIND:
            self.catch_up()
        latest, self._latest = self._latest, None
        counts = self.guessed()
        self._latest = latest
        return counts


def _names(way: Path) -> list[str]:
    return [step if isinstance(step, str) else step[0] for step in way]


def _put(document: dict[str, Any], way: Path, value: object) -> None:
    for step in way[:-1]:
        inner = document.setdefault(str(step), {})
        document = inner if isinstance(inner, dict) else {}
    document[str(way[-1])] = value
