from __future__ import annotations

import dataclasses
import hmac
import time
from pathlib import Path

import pytest

from llamakey_addon import keys
from llamakey_addon.authenticate import who
from llamakey_addon.config import Settings
from llamakey_addon.errors import Forbidden, NotReady, Unauthenticated
from llamakey_addon.journey import Ask, Rule
from llamakey_addon.store import open_store

FOREIGN = "sk-proj-Zq3vXw9LmT7uRb2NcY5dHj8KpS4aGe6F"


@pytest.fixture
def store(tmp_path):
    with open_store(tmp_path / "data") as opened:
        yield opened


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Settings.load(None, {"HOME": "/home/me"})


@pytest.fixture
def key(store):
    minted = keys.mint()
    store.add_key("alice-laptop", "alice", minted)
    return minted


def ask(
    *headers: tuple[str, str],
    target: str = "/openai/v1/models",
    as_key: str = "",
    websocket: bool = False,
) -> Ask:
    return Ask(
        id="lmk_1",
        time_s=0,
        peer="127.0.0.1",
        method="GET",
        target=target,
        headers=tuple((name.encode(), value.encode("latin-1")) for name, value in headers),
        body_length=0,
        as_key=as_key,
        websocket=websocket,
    )


@pytest.fixture
def asked(store, settings):
    def call(*headers, provider="openai", **more):
        return who(ask(*headers, **more), settings.providers[provider], store, settings)

    return call


# --- every slot -----------------------------------------------------------------------------------


def test_every_slot_of_every_provider(asked, settings, key):
    """As the catalogue has it; that the catalogue is right is tested against documentation."""
    count = 0
    for provider in settings.providers.values():
        for slot in provider.entry.credential.accept:
            text = provider.entry.credential.client_prefix + key.text
            if slot.proof:
                continue  # of what is signed with a key: test_signature.py, test_signin.py
            if slot.query:
                user = asked(provider=provider.prefix, target=f"/x?a=b&{slot.query}={text}")
            elif slot.subprotocol:
                words = ("Sec-WebSocket-Protocol", "x, " + slot.subprotocol.format(key=text))
                user = asked(words, provider=provider.prefix, websocket=True)
                with pytest.raises(Unauthenticated):  # no SDK puts it into a plain request
                    asked(words, provider=provider.prefix)
            else:
                user = asked(
                    (slot.header, f"{slot.scheme} {text}".strip()), provider=provider.prefix
                )
            assert (user.name, user.key_name, user.key_id) == ("alice", "alice-laptop", key.id)
            count += 1
    assert count > 30


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("authorization", "Bearer {}"),
        ("AUTHORIZATION", "bearer {}"),
        ("Authorization", "BEARER   {}  "),
        ("Authorization", "Bearer hf_{}"),
    ],
)
def test_forms_of_a_header(asked, key, name, value):
    assert asked((name, value.format(key.text))).name == "alice"


@pytest.mark.parametrize(
    ("provider", "headers"),
    [
        ("openai", [("Authorization", "Bearer {}"), ("Authorization", "Bearer {}")]),
        ("azure", [("api-key", "{}"), ("Authorization", "Bearer {}")]),
        ("anthropic", [("x-api-key", "{}"), ("Authorization", "Bearer {}")]),
        ("openai", [("Authorization", "Bearer {}"), ("x-api-key", "hf_{}")]),
        ("openai", [("Authorization", "Bearer {}"), ("x-api-key", FOREIGN)]),
        ("openai", [("Authorization", "Bearer {}"), ("OpenAI-Organization", "org-1")]),
    ],
)
def test_one_key_in_two_slots_is_one_key(asked, key, provider, headers):
    filled = [(name, value.format(key.text)) for name, value in headers]
    assert asked(*filled, provider=provider).key_id == key.id


@pytest.mark.parametrize(
    ("headers", "target"),
    [
        ([("Authorization", "Bearer {}"), ("Authorization", "Bearer {other}")], "/openai/v1/x"),
        ([("Authorization", "Bearer {}"), ("x-api-key", "{other}")], "/openai/v1/x"),
        ([("Authorization", "Bearer {}"), ("X_Api_Key", "{other}")], "/openai/v1/x"),
        ([("Authorization", "Bearer {}"), ("xi-api-key", "hf_{other}")], "/openai/v1/x"),
        ([("Authorization", "Bearer {}, Bearer {other}")], "/openai/v1/x"),
        ([("Authorization", "Bearer {}")], "/openai/v1/x?key={other}"),
        ([("Authorization", "Bearer {}")], "/openai/v1/x?k%65y=%73k{other_rest}"),
        ([("Authorization", "Bearer {}"), ("api-key", "sk-lmk-broken")], "/openai/v1/x"),
    ],
)
def test_two_different_keys_are_refused(asked, store, key, headers, target):
    other = keys.mint()
    store.add_key("bob", "bob", other)

    def fill(text: str) -> str:
        return text.format(key.text, other=other.text, other_rest=other.text[2:])

    with pytest.raises(Unauthenticated) as caught:
        asked(*[(name, fill(value)) for name, value in headers], target=fill(target))
    assert "Two different LlamaKey keys" in caught.value.message
    for said in (caught.value.message, caught.value.detail):
        assert key.text not in said and other.text not in said


# --- refusals -------------------------------------------------------------------------------------


def test_no_key_names_the_variable(asked, key):
    with pytest.raises(Unauthenticated) as caught:
        asked()
    assert "Set OPENAI_API_KEY=<your key>" in caught.value.message
    assert "llamakey_local.env" in caught.value.message
    with pytest.raises(Unauthenticated, match="No key came"):
        asked(("OpenAI-Organization", "org-1"), ("Authorization", ""))


@pytest.mark.parametrize(
    ("provider", "headers", "target"),
    [
        ("openai", [("Authorization", f"Bearer {FOREIGN}")], "/x"),
        ("openai", [("Authorization", f"Basic {FOREIGN}")], "/x"),
        ("openai", [("Authorization", FOREIGN)], "/x"),
        ("openai", [("x-api-key", FOREIGN)], "/x"),
        ("gemini", [], f"/x?key={FOREIGN}"),
        ("openai", [("Authorization", "Bearer sk-lm-k")], "/x"),
        ("openai", [("Authorization", "Bearer \xe9\xff")], "/x"),
    ],
)
def test_a_foreign_key_is_never_echoed(asked, provider, headers, target):
    with pytest.raises(Unauthenticated) as caught:
        asked(*headers, provider=provider, target=target)
    assert "not a LlamaKey key; it was not sent on" in caught.value.message
    for said in (str(caught.value), caught.value.detail, repr(caught.value)):
        assert FOREIGN not in said


@pytest.mark.parametrize(
    ("headers", "target"),
    [
        ([("x-api-key", "{}")], "/x"),
        ([("Authorization", "{}")], "/x"),
        ([("Authorization", "Token {}")], "/x"),
        ([], "/x?key={}"),
    ],
)
def test_a_key_in_another_providers_slot_says_where_it_belongs(asked, key, headers, target):
    with pytest.raises(Unauthenticated) as caught:
        asked(*[(n, v.format(key.text)) for n, v in headers], target=target.format(key.text))
    assert "Authorization: Bearer <key>" in caught.value.message
    assert key.text not in caught.value.message


def test_the_hint_names_what_the_provider_has(tmp_path, monkeypatch, store):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(
        "providers:\n"
        "  search: {upstream: 'https://a', credential: {header: X-Key, format: '{key}'}}\n"
    )
    settings = Settings.load(None, {"HOME": "/home/me"})
    for prefix, hint in (("search", "X-Key: <key>"), ("jina", "JINA_API_KEY"), ("gemini", "KEY")):
        with pytest.raises(Unauthenticated, match=hint):
            who(ask(), settings.providers[prefix], store, settings)
    local = keys.mint().text
    with pytest.raises(Unauthenticated, match=r"\?key=<key>"):
        who(ask(("xi-api-key", local)), settings.providers["gemini"], store, settings)


@pytest.mark.parametrize("header", ["Cookie", "X-Whatever", "Referer"])
def test_a_key_elsewhere_is_no_key(asked, key, header):
    with pytest.raises(Unauthenticated, match="in a place where"):
        asked((header, key.text))


@pytest.mark.parametrize(
    "change", [lambda t: t[:-1], lambda t: t[:-1] + "!", lambda t: t[:20], lambda t: t + "A"]
)
def test_a_mistyped_key_is_told_from_an_unknown_one(asked, key, change):
    with pytest.raises(Unauthenticated, match="cut or mistyped"):
        asked(("Authorization", f"Bearer {change(key.text)}"))


def test_an_unknown_key(asked, key):
    stranger = keys.mint()
    with pytest.raises(Unauthenticated) as caught:
        asked(("Authorization", f"Bearer {stranger.text}"))
    assert f"does not know the key sk-lmk-{stranger.id}-…" in caught.value.message
    assert "lmk keys new" in caught.value.message
    assert stranger.text not in caught.value.message


def test_a_known_id_with_another_secret_is_unknown(asked, key):
    secret = "A" * 43
    forged = f"sk-lmk-{key.id}-{secret}{keys._checksum(key.id, secret)}"
    assert keys.parse(forged) is not None
    with pytest.raises(Unauthenticated, match="does not know") as caught:
        asked(("Authorization", f"Bearer {forged}"))
    assert "wrong secret" in caught.value.detail  # for the owner's log alone
    assert "wrong secret" not in caught.value.message


def test_a_key_is_looked_up_by_its_id_and_compared_in_constant_time(asked, key, monkeypatch):
    """Whether the id is known, or which part of the secret is wrong, cannot be told by the time."""
    compared: list[tuple[bytes, bytes]] = []
    real = hmac.compare_digest

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return real(one, other)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    secret = "A" * 43
    forged = f"sk-lmk-{key.id}-{secret}{keys._checksum(key.id, secret)}"
    stranger = keys.mint()
    for text in (forged, stranger.text):
        with pytest.raises(Unauthenticated):
            asked(("Authorization", f"Bearer {text}"))
    assert [len(a) == len(b) == 32 for a, b in compared] == [True, True]
    assert compared[0][0] != compared[0][1] == key.digest


def test_a_revoked_key(asked, store, key):
    headers = ("Authorization", f"Bearer {key.text}")
    assert asked(headers).name == "alice"
    store.revoke("alice-laptop")
    with pytest.raises(Unauthenticated, match=r"was revoked at 20\d\d-.* UTC") as caught:
        asked(headers)
    assert "alice-laptop" not in caught.value.message
    assert key.text not in caught.value.message


def test_an_expired_key_says_what_to_do(asked, store, key):
    headers = ("Authorization", f"Bearer {key.text}")
    store.expire("alice-laptop", time.time() + 60)
    assert asked(headers).name == "alice"
    store.expire("alice-laptop", 86400.0)
    with pytest.raises(Unauthenticated, match="expired at 1970-01-02 00:00 UTC") as caught:
        asked(headers)
    assert "lmk keys rotate alice-laptop" in caught.value.message
    assert "set OPENAI_API_KEY to it" in caught.value.message
    assert key.text not in caught.value.message


def test_a_rotated_key_is_valid_until_its_overlap_ends(asked, store, key):
    new = keys.mint()
    store.rotate("alice-laptop", new, overlap_s=60, expires_s=None)
    for text in (key.text, new.text):
        assert asked(("Authorization", f"Bearer {text}")).name == "alice"
    store.rotate("alice-laptop", keys.mint(), overlap_s=0, expires_s=None)
    assert asked(("Authorization", f"Bearer {key.text}")).key_id == key.id
    with pytest.raises(Unauthenticated, match=r"was rotated at 20\d\d-.* UTC") as caught:
        asked(("Authorization", f"Bearer {new.text}"))
    assert "Set OPENAI_API_KEY to the new key 'alice-laptop'" in caught.value.message


@pytest.mark.parametrize(
    ("peer", "good"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("fd00::1%eth0", True),
        ("192.0.2.7", False),
        ("fd01::1", False),
        ("unix", False),
    ],
)
def test_a_key_of_a_network_is_used_from_there_alone(store, settings, peer, good):
    minted = keys.mint()
    store.add_key("ci", "alice", minted, networks=("10.0.0.0/8", "fd00::/16"))
    sent = ask(("Authorization", f"Bearer {minted.text}"))
    provider = settings.providers["openai"]
    sent = dataclasses.replace(sent, peer=peer)
    if good:
        assert who(sent, provider, store, settings).key_name == "ci"
        return
    with pytest.raises(Unauthenticated, match="may not be used from") as caught:
        who(sent, provider, store, settings)
    assert peer in caught.value.message and "lmk keys new NAME --from" in caught.value.message
    assert "10.0.0.0/8" not in caught.value.message, "for the log alone"
    assert "10.0.0.0/8" in caught.value.detail
    replayed = dataclasses.replace(ask(as_key=minted.id), peer=peer)
    assert who(replayed, provider, store, settings).key_name == "ci"


def test_where_a_key_may_be_used_is_told_to_its_owner_alone(store, settings, key):
    """A wrong secret is refused before anything of the key is told."""
    forged = f"sk-lmk-{key.id}-{'A' * 43}{keys._checksum(key.id, 'A' * 43)}"
    stranger = keys.mint()
    said = set()
    for text in (forged, stranger.text):
        for change in (
            lambda: None,
            lambda: store.expire("alice-laptop", 1.0),
            lambda: store.revoke(key.id),
        ):
            change() if text == forged else None
            with pytest.raises(Unauthenticated) as caught:
                who(
                    ask(("Authorization", f"Bearer {text}")),
                    settings.providers["openai"],
                    store,
                    settings,
                )
            said.add(caught.value.message.replace(key.id, "ID").replace(stranger.id, "ID"))
    assert len(said) == 1


def test_a_store_that_fails_lets_nobody_in(asked, store, key):
    store.close()
    with pytest.raises(NotReady) as caught:
        asked(("Authorization", f"Bearer {key.text}"))
    assert "closed" in caught.value.detail and "closed" not in caught.value.message


# --- replays and rules ----------------------------------------------------------------------------


def test_a_replay_runs_as_its_key_while_it_is_valid(asked, store, key):
    assert asked(as_key=key.id).key_id == key.id
    other = keys.mint()
    store.add_key("bob", "bob", other)
    assert asked(("Authorization", f"Bearer {other.text}"), as_key=key.id).name == "alice"
    store.revoke(key.id)
    with pytest.raises(Unauthenticated, match="revoked"):
        asked(as_key=key.id)
    with pytest.raises(Unauthenticated, match="can't be replayed"):
        asked(as_key="abcdefghij")


def test_the_users_policy_comes_along(asked, settings, store, key):
    assert asked(("Authorization", f"Bearer {key.text}")).policy.allow is None
    Path("config.yaml").write_text(
        "users: {Alice: {allow: [{providers: [openai]}]}, '*': {allow: []}}"
    )
    named = Settings.load(None, {"HOME": "/home/me"})
    user = who(
        ask(("Authorization", f"Bearer {key.text}")), settings.providers["openai"], store, named
    )
    assert user.policy.allow == (Rule(("openai",)),)
    assert user.policy.allow_setting == "users.Alice.allow"


def test_the_keys_scope_comes_along(asked, store):
    scoped = keys.mint()
    store.add_key("ci", "alice", scoped, scope='{"allow": [{"models": ["gpt-5*"]}]}')
    user = asked(("Authorization", f"Bearer {scoped.text}"))
    assert user.scope is not None and user.scope.allow == (Rule(models=("gpt-5*",)),)
    assert user.policy.allow is None


def test_a_scope_that_cannot_be_read_allows_nothing(asked, store):
    scoped = keys.mint()
    store.add_key("ci", "alice", scoped, scope='{"allows": []}')
    with pytest.raises(Forbidden, match="scope") as caught:
        asked(("Authorization", f"Bearer {scoped.text}"))
    assert "allows" in caught.value.detail
