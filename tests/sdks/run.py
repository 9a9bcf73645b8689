"""What a run of an SDK's program is: values, and nothing of any one SDK."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

type Environment = Literal["current", "old", "node"]


@dataclass(frozen=True, slots=True)
class Raises:
    """A surface that must raise this class of the SDK's, or one derived from it."""

    kind: str
    speaks: bool = True
    """Whether the exception's text holds the answer's message (some SDKs keep it elsewhere)."""


@dataclass(frozen=True, slots=True)
class Run:
    """One program in one environment."""

    id: str
    program: str
    providers: tuple[str, ...]
    """Whose lines of the client environment are handed out."""
    env: dict[str, str]
    """What these lines must say; beside them the process knows nothing."""
    expect: dict[str, object]
    environment: Environment = "current"
    args: tuple[str, ...] = ()
    own: dict[str, str] = field(default_factory=dict)
    """Variables that a person sets for an SDK that have nothing to do with a proxy."""
    strays: frozenset[str] = frozenset()
    """Other hosts that it may look up or connect to; a run that does so else has failed."""
    direct: dict[str, str] = field(default_factory=dict)
    """Variables that must be otherwise without a proxy, which knows more forms of a path."""
