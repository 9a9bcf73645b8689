"""The catalogue's loader, and what must hold of every file."""

from __future__ import annotations

import re
import string
from importlib import resources
from pathlib import Path

import pytest
import yaml

from llamakey_addon import catalogue, route
from llamakey_addon.catalogue.models import Client, Entry
from llamakey_addon.errors import ConfigError
from tests.catalogue.providers import every

CATALOGUE = catalogue.load()
ENTRIES = list(CATALOGUE.entries.values())
PROVIDERS = every()
PLACEHOLDERS = {"proxy", "authority", "prefix", "key", "key_id", "key_file"}

GOOD = """
id: acme
name: Acme
docs: https://acme.example/docs
prefix: acme
upstream: https://api.acme.example
key_env: [ACME_API_KEY]
credential:
  place: {header: Authorization, format: "Bearer {key}"}
  accept: [{header: Authorization, scheme: Bearer}]
envelope: plain
"""
ENVELOPES = "plain: {content_type: text/plain, body: '{message}'}\n"


def _read(folder: Path, **files: str) -> catalogue.Catalogue:
    for name, text in {"envelopes": ENVELOPES, **files}.items():
        (folder / f"{name}.yaml").write_text(text, "utf-8")
    return catalogue.read(folder)


# --- the loader -----------------------------------------------------------------------------------


def test_a_provider_is_added_by_a_file_alone(tmp_path: Path) -> None:
    loaded = _read(tmp_path, acme=GOOD + "identity_headers: [X_Acme_Team]\n")
    assert list(loaded.entries) == ["acme"]
    assert loaded.strip_headers == {b"authorization", b"x-acme-team"}
    assert loaded.query_keys == frozenset()


def test_numbers_and_truth_values_are_read_from_text(tmp_path: Path) -> None:
    envelopes = "plain: {body: {error: '{message}', param: null}, types: {0: a, 429: b}}\n"
    loaded = _read(tmp_path, acme=GOOD + "encoded_slash: true\n", envelopes=envelopes)
    assert loaded.entries["acme"].encoded_slash is True
    assert loaded.envelopes["plain"].types == {0: "a", 429: "b"}
    assert loaded.envelopes["plain"].body == {"error": "{message}", "param": None}


@pytest.mark.parametrize(
    ("text", "where", "says"),
    [
        (GOOD + "upsteam: https://x\n", "acme.yaml", "upsteam: Extra inputs"),
        (GOOD.replace("prefix: acme", "prefix: Acme/x"), "acme.yaml", "prefix: "),
        (
            GOOD.replace(
                "accept: [{header: Authorization, scheme: Bearer}]", "accept: [{}, {header: A}]"
            ),
            "acme.yaml",
            "credential.accept.0: Value error, a slot names exactly one",
        ),
        (
            GOOD + "aliases: [{pattern: '/(', path: /}]\n",
            "acme.yaml",
            "aliases.0: Value error, '/(' is no regular expression",
        ),
        (
            GOOD + "aliases: [{pattern: '/(a)', path: '/\\2'}]\n",
            "acme.yaml",
            "aliases.0: Value error, '/\\\\2' names a group",
        ),
        (GOOD + "endpoints: [{name: a, path: a}]\n", "acme.yaml", "endpoints.0.path: "),
        (
            GOOD + "endpoints: [{name: a, path: /a}, {name: a, path: /b}]\n",
            "acme.yaml",
            "endpoints: a stands twice for POST",
        ),
        (GOOD.replace("id: acme", "id: other"), "acme.yaml", "id: the file of 'other'"),
        (GOOD.replace("envelope: plain", "envelope: round"), "acme.yaml", "envelope: 'round'"),
        (GOOD + "notes: [\n", "acme.yaml:13", "not YAML: "),
        ("- a list\n", "acme.yaml", "a mapping of fields is expected"),
    ],
)
def test_faults_name_file_and_field(tmp_path: Path, text: str, where: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _read(tmp_path, acme=text)
    assert [fault.where for fault in caught.value.faults] == [where]
    assert caught.value.faults[0].message.startswith(says)


def test_all_faults_come_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        _read(
            tmp_path,
            acme=GOOD + "wrong: 1\n",
            zeta="",
            envelopes=ENVELOPES + "odd: {bodie: x}\n",
        )
    assert {fault.where for fault in caught.value.faults} == {
        "acme.yaml",
        "zeta.yaml",
        "envelopes.yaml: odd",
    }


def test_prefixes_are_unique(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"prefix: 'acme' is already acme\.yaml's"):
        _read(tmp_path, acme=GOOD, second=GOOD.replace("id: acme", "id: second"))


def test_loaded_once() -> None:
    assert catalogue.load() is CATALOGUE


def test_strip_headers_and_query_keys() -> None:
    assert CATALOGUE.strip_headers >= {
        b"authorization",
        b"x-api-key",
        b"api-key",
        b"x-goog-api-key",
        b"xi-api-key",
        b"openai-organization",
        b"openai-project",
        b"x-goog-user-project",
        b"x-hf-bill-to",
        b"anthropic-workspace-id",
    }
    assert not CATALOGUE.strip_headers & {b"anthropic-version", b"anthropic-beta", b"openai-beta"}
    assert "key" in CATALOGUE.query_keys


# --- what holds of every file ---------------------------------------------------------------------


def _no_twins(node: yaml.Node | None) -> None:
    if isinstance(node, yaml.MappingNode):
        names = [key.value for key, _ in node.value]
        assert len(names) == len(set(names)), f"{node.start_mark}: a key stands twice"
        for _, value in node.value:
            _no_twins(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _no_twins(item)


def test_no_key_stands_twice_in_a_file() -> None:
    for file in resources.files(catalogue).iterdir():
        if file.name.endswith(".yaml"):
            _no_twins(yaml.compose(file.read_text("utf-8"), yaml.SafeLoader))


def test_one_provider_alone_sets_a_variable_by_default() -> None:
    values: dict[str, tuple[str, str]] = {}
    for entry in ENTRIES:
        for client in entry.clients:
            for variable, template in client.env.items() if client.default else ():
                value = template.replace("{prefix}", entry.prefix)
                value = value.replace("{key}", entry.credential.client_prefix + "{key}")
                assert values.setdefault(variable, (value, entry.id))[0] == value, (
                    f"{variable} is set by {entry.id} and {values[variable][1]}"
                )


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)
def test_clients_are_reachable_and_filled(entry: Entry) -> None:
    for client in entry.clients:
        for variable, template in client.env.items():
            assert re.fullmatch(r"[A-Z][A-Z0-9_]*", variable)
            assert {part[1] for part in string.Formatter().parse(template)} <= {None, *PLACEHOLDERS}
        assert client.env or client.code or client.door == "none"
    # The provider's own id reaches it, whatever else sets the same variables.
    assert not entry.clients or any(map(_of_its_own, entry.clients))


def _of_its_own(client: Client) -> bool:
    return client.default or not client.tools


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)
def test_upstream_variables(entry: Entry) -> None:
    named = set(re.findall(r"\{([^}]*)\}", entry.upstream))
    assert named == set(entry.upstream_vars)
    # A variable fills labels of the host: the domain stays the catalogue's.
    assert not entry.upstream.endswith("}")


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)
def test_endpoints_are_found_by_their_own_paths(entry: Entry) -> None:
    """No earlier pattern hides one, no alias rewrites it, its parameters are the path's."""
    for endpoint in entry.endpoints:
        names = re.findall(r"\{([a-z_]+)(?:\.\.\.)?\}", endpoint.path)
        assert (endpoint.model == "path") == ("model" in names), endpoint.name
        sample = re.sub(r"\{[a-z_]+\.\.\.\}", "s1/s2", endpoint.path)
        sample = re.sub(r"\{[a-z_]+\}", "s1", sample)
        host = f"/{endpoint.host.replace('*', 'x1')}" if endpoint.host else ""
        for method in endpoint.methods:
            way = route.find(
                f"/{entry.prefix}{host}{sample}", method, PROVIDERS, CATALOGUE.query_keys
            )
            assert way.path == sample
            assert way.endpoint is endpoint, sample
            assert sorted(way.params) == sorted(names)
