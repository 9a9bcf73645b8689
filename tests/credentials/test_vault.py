"""The vault: one making for all, the next one ahead of time, and failures that stay failures."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest

from llamakey_addon import credentials
from llamakey_addon.catalogue.models import Placement
from llamakey_addon.credentials import Made, MakingFailed, Placed
from llamakey_addon.credentials.vault import Vault
from llamakey_addon.errors import Denied, NoCredential
from llamakey_addon.journey import Recipe, Seal
from llamakey_addon.keys import Secret

HOSTS = frozenset({"api.example"})


class Mint:
    """A maker whose makings a test lets go one by one."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.results: list[Made | Exception] = []
        self.ready = threading.Semaphore(0)
        self.made = 0
        self.threads: set[str] = set()

    def give(self, result: Made | Exception) -> None:
        self.results.append(result)
        self.ready.release()

    def __call__(self) -> Made:
        self.threads.add(threading.current_thread().name)
        self.made += 1
        self.begun.release()
        self.ready.acquire()
        result = self.results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result


class Asker:
    """Somebody who wants a credential."""

    def __init__(self) -> None:
        self.seals: list[Seal] = []
        self.denials: list[Denied] = []
        self.told = asyncio.Event()

    def made(self, recipe: Recipe, seal: Seal) -> None:
        self.seals.append(seal)
        self.told.set()

    def failed(self, recipe: Recipe, denied: Denied) -> None:
        self.denials.append(denied)
        self.told.set()


class Bench:
    def __init__(self, mint: Mint) -> None:
        self.mint = mint
        self.time_s = 1000.0
        self.notes: list[str] = []
        self.vault = Vault(_nobody, self.notes.append, lambda: self.time_s)
        self.recipe = recipe()

    def want(self) -> Asker:
        asker = Asker()
        self.vault.want(self.recipe, asker.made, asker.failed)
        return asker


def _nobody(*args: object, **more: object) -> credentials.Reply:
    raise AssertionError("nobody is asked")


def recipe(name: str = "Example") -> Recipe:
    return Recipe(
        kind="client-credentials",
        name=name,
        setting="providers.example.login",
        source="env:EXAMPLE",
        place=Placement(header="Authorization", format="Bearer {key}"),
        hosts=HOSTS,
        inputs={},
    )


def token(text: str, lives_s: float = 3600) -> Made:
    place = Placement(header="Authorization", format="Bearer {key}")
    return Made(Placed(Secret(text, hosts=HOSTS, source="test"), place), lives_s)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    mint = Mint()
    monkeypatch.setattr(credentials, "maker", lambda recipe, ask: mint)
    yield Bench(mint)
    for _ in range(10):  # nobody waits for ever
        mint.give(MakingFailed("over", passing=True))


async def told(*askers: Asker) -> None:
    async with asyncio.timeout(45):
        for asker in askers:
            await asker.told.wait()


async def until(holds: Callable[[], bool]) -> None:
    """Turns of the loop until it holds: what is made tells nobody who does not wait for it."""
    async with asyncio.timeout(45):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0)


async def test_many_wait_for_one_making(bench: Bench) -> None:
    crowd = [bench.want() for _ in range(50)]
    bench.mint.give(token("t1"))
    await told(*crowd)
    assert {id(asker.seals[0]) for asker in crowd} == {id(crowd[0].seals[0])}
    late = bench.want()  # at once, without a turn of the loop
    assert late.seals == crowd[0].seals
    assert bench.mint.made == 1
    assert threading.current_thread().name not in bench.mint.threads


async def test_the_next_is_made_before_the_end_and_nobody_waits(bench: Bench) -> None:
    first = bench.want()
    bench.mint.give(token("t1", 3600))
    await told(first)
    bench.time_s += 3200
    assert bench.want().seals == first.seals and bench.mint.made == 1
    bench.time_s += 100  # 300 s before it ends
    during = [bench.want() for _ in range(5)]
    assert all(asker.seals == first.seals for asker in during)
    await asyncio.to_thread(bench.mint.begun.acquire)
    await asyncio.to_thread(bench.mint.begun.acquire)
    assert bench.mint.made == 2
    bench.mint.give(token("t2"))
    await until(lambda: bench.want().seals != first.seals)
    assert bench.mint.made == 2


async def test_one_that_has_ended_is_never_given(bench: Bench) -> None:
    first = bench.want()
    bench.mint.give(token("t1", 60))
    await told(first)
    bench.time_s += 55  # within the margin that a request needs to arrive
    second = bench.want()
    assert not second.seals
    bench.mint.give(token("t2"))
    await told(second)
    assert second.seals != first.seals


async def test_a_failure_is_told_to_all_with_the_remedy_for_the_log_alone(bench: Bench) -> None:
    crowd = [bench.want() for _ in range(3)]
    bench.mint.give(MakingFailed("the id is unknown: check it", passing=False))
    await told(*crowd)
    denials = [asker.denials[0] for asker in crowd]
    assert len({id(denied) for denied in denials}) == 3  # each is its own request's
    for denied in denials:
        assert isinstance(denied, NoCredential) and denied.status == 503 and not denied.passing
        assert "the id is unknown: check it" in denied.detail and "env:EXAMPLE" in denied.detail
        assert "unknown" not in denied.message and "Tell the proxy's owner" in denied.message
        assert denied.setting == "providers.example.login"
    # a crowd does not storm the server, and the next try after a while may succeed
    assert bench.want().denials and bench.mint.made == 1
    bench.time_s += 11
    again = bench.want()
    bench.mint.give(token("t1"))
    await told(again)
    assert again.seals and bench.mint.made == 2


async def test_a_passing_failure_says_when_to_try_again(bench: Bench) -> None:
    asker = bench.want()
    bench.mint.give(MakingFailed("busy", passing=True))
    await told(asker)
    assert asker.denials[0].passing
    assert dict(asker.denials[0].headers) == {"Retry-After": "2"}


async def test_what_a_library_raises_is_not_repeated(bench: Bench) -> None:
    asker = bench.want()
    bench.mint.give(ValueError("with a canary in it"))
    await told(asker)
    assert "ValueError" in asker.denials[0].detail
    assert "canary" not in asker.denials[0].detail + asker.denials[0].message


async def test_while_the_old_one_is_good_a_failed_renewal_is_noted_and_not_felt(
    bench: Bench,
) -> None:
    first = bench.want()
    bench.mint.give(token("t1", 3600))
    await told(first)
    bench.time_s += 3400
    assert bench.want().seals == first.seals
    bench.mint.give(MakingFailed("busy", passing=True))
    await until(lambda: bool(bench.notes))
    assert bench.notes == ["Example: busy"]
    assert bench.want().seals == first.seals and bench.mint.made == 2


async def test_one_that_the_provider_refused_is_made_anew(bench: Bench) -> None:
    first = bench.want()
    bench.mint.give(token("t1"))
    await told(first)
    bench.vault.doubt(bench.recipe, first.seals[0])
    assert bench.want().seals == first.seals  # seconds old: a new one would be refused as well
    bench.time_s += 20
    bench.vault.doubt(bench.recipe, first.seals[0])
    second = bench.want()
    assert not second.seals
    bench.mint.give(token("t2"))
    await told(second)
    bench.time_s += 20
    bench.vault.doubt(bench.recipe, first.seals[0])  # late, of a request with the old one
    assert bench.want().seals == second.seals


async def test_what_is_at_hand_can_be_masked_and_is_forgotten_with_its_recipe(
    bench: Bench,
) -> None:
    first = bench.want()
    bench.mint.give(token("t1-secret"))
    await told(first)
    assert [secret.reveal("api.example") for secret in bench.vault.secrets()] == [b"t1-secret"]
    bench.vault.keep([bench.recipe])
    assert bench.want().seals == first.seals
    bench.vault.keep([recipe()])  # another one, though it says the same: a reload
    assert bench.vault.secrets() == ()
