"""Values that are made quickly are what the dataclass would have made."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, dataclass, field, replace

import pytest

from llamakey_addon import http1, journey
from llamakey_addon.quick import quick


@dataclass(frozen=True, slots=True)
class Plain:
    a: int
    b: str = "b"
    c: list[int] = field(default_factory=list)


@quick
@dataclass(frozen=True, slots=True)
class Quick:
    a: int
    b: str = "b"
    c: list[int] = field(default_factory=list)


def test_is_made_with_the_same_arguments_and_defaults() -> None:
    for made in (Quick(1), Quick(1, "b"), Quick(a=1, c=[]), Quick(1, b="b", c=[])):
        assert (made.a, made.b, made.c) == (1, "b", [])
        assert type(made) is Quick
    assert repr(Quick(2, c=[3])) == repr(Plain(2, c=[3])).replace("Plain", "Quick")
    assert Quick(1).c is not Quick(1).c
    with pytest.raises(TypeError, match=r"Quick\.__init__"):
        Quick()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected"):
        Quick(1, d=2)  # type: ignore[call-arg]


def test_is_a_value_and_frozen() -> None:
    made = Quick(1)
    assert made == Quick(1)
    assert made != Quick(2)
    assert replace(made, a=5) == Quick(5)
    assert copy.copy(made) == made
    assert pickle.loads(pickle.dumps(made)) == made
    with pytest.raises(FrozenInstanceError):
        made.a = 2  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        del made.a
    with pytest.raises((AttributeError, TypeError)):
        made.d = 1  # type: ignore[attr-defined]


def test_what_it_cannot_do_is_refused() -> None:
    class Base:
        pass

    @dataclass(frozen=True, slots=True)
    class Derived(Base):
        a: int

    @dataclass(frozen=True, slots=True)
    class Checked:
        a: int

        def __post_init__(self) -> None: ...

    @dataclass(frozen=True, slots=True)
    class Named:
        a: int = field(kw_only=True)

    for each in (Derived, Checked, Named):
        with pytest.raises(TypeError):
            quick(each)


def test_the_values_of_a_journey_are_frozen() -> None:
    ask = journey.Ask("lmk_1", 0.0, "192.0.2.1", "GET", "/", (), 0)
    head = http1.RequestHead("GET", "/", (), 0, True, False, False, False)
    for value in (ask, journey.Body(b""), journey.Usage(200, 1, 2, None, 0.1, "complete"), head):
        name = type(value).__slots__[0]
        with pytest.raises(FrozenInstanceError):
            setattr(value, name, "another")
