"""Recorded shapes of providers' answers, and what they come to, worked out by hand.

One YAML file a provider, a list of samples in it. The comment above each says where the shape is
documented and how its cost is worked out, `a * b + c = cost`, in nano-dollars. Fields:

    name, endpoint    the catalogue's
    model             as the request names it; `priced_as` where the proxy would not know it
    asked             the request's body; `asked_bytes` the length of one that streams; `params`
    type, headers     of the answer; `status` if not 200; `body`
    frames            in place of a body: messages of a WebSocket, `down` and `up`
    events            in place of a body: AWS's, by their kind; what a `chunk` holds is packed
    counts, answered, terms, job, exact, cost_nusd, quality     what the meter and the prices say
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import yaml

from tests.fakes import aws

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Much faster, where PyYAML has it."""

FOLDER = Path(__file__).parent
_SUM = re.compile(r"^([0-9 *+/.()-]+) = (\d+)$")


@dataclass(frozen=True)
class Sample:
    provider: str
    name: str
    endpoint: str
    comment: tuple[str, ...]
    counts: dict[str, int]
    model: str = ""
    priced_as: str = ""
    asked: str | None = None
    asked_bytes: int | None = None
    params: dict[str, str] = field(default_factory=dict)
    type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200
    body: str = ""
    frames: tuple[dict[str, str], ...] = ()
    events: tuple[dict[str, str], ...] = ()
    answered: str = ""
    terms: dict[str, str] = field(default_factory=dict)
    job: str = ""
    exact: bool = True
    cost_nusd: int = 0
    quality: str = ""

    def __str__(self) -> str:
        return f"{self.provider}: {self.name}"

    @property
    def bytes(self) -> bytes:
        packed = b""
        for event in self.events:
            for kind, text in event.items():
                value: object = json.loads(text)
                if kind == "chunk":
                    value = {"bytes": base64.b64encode(text.encode()).decode(), "p": "abcd"}
                packed += aws.event(kind, value)
        return packed or self.body.encode()

    @property
    def sum_by_hand(self) -> int | None:
        """The result of the sum in the comment, whose arithmetic is checked here."""
        for line in self.comment:
            if found := _SUM.match(line):
                left = re.sub(r"\d+(\.\d+)?", r"Fraction('\g<0>')", found[1])
                value = math.ceil(eval(left, {"Fraction": Fraction}))
                assert value == int(found[2]), f"{self}: {found[1]} is {value}"
                return value
        return None


def load() -> Iterator[Sample]:
    for file in sorted(FOLDER.glob("*.yaml")):
        text = file.read_text("utf-8")
        comments = list(_comments(text))
        samples: list[dict[str, Any]] = yaml.load(text, LOADER)
        assert len(comments) == len(samples), file.name
        for content, comment in zip(samples, comments, strict=True):
            frames = tuple(content.pop("frames", ()))
            events = tuple(content.pop("events", ()))
            yield Sample(
                provider=file.stem, comment=comment, frames=frames, events=events, **content
            )


def _comments(text: str) -> Iterator[tuple[str, ...]]:
    """The lines of the comment right above each sample."""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if line.startswith("- name: "):
            first = number
            while first and lines[first - 1].startswith("#"):
                first -= 1
            yield tuple(line.removeprefix("#").strip() for line in lines[first:number])
