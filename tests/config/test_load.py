from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
import traceback
import typing
from dataclasses import fields
from decimal import Decimal
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from llamakey_addon import catalogue, certificates
from llamakey_addon.config import (
    Limits,
    Listen,
    Logging,
    Metering,
    Money,
    People,
    Settings,
    Tls,
    Trust,
    View,
)
from llamakey_addon.config.folders import default_data_folder
from llamakey_addon.config.model import ConfigFile
from llamakey_addon.errors import ConfigError

REPO = Path(__file__).parents[2]
REAL = "sk-proj-Zq3vXw9LmT7uRb2NcY5dHj8KpS4aGe6F"


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Loads a text as config.yaml of the folder that it runs in."""
    monkeypatch.chdir(tmp_path)

    def read(text="", environ=None, **options):
        if text is not None:
            (tmp_path / "config.yaml").write_text(textwrap.dedent(text))
        return Settings.load(None, {"HOME": "/home/me", **(environ or {})}, **options)

    return read


def same(one: Settings, other: Settings) -> bool:
    """Whether two loads decided the same, wherever they read it."""
    skipped = {"path", "providers"}
    ready = [{k: (p.upstream, p.missing) for k, p in s.providers.items()} for s in (one, other)]
    return ready[0] == ready[1] and all(
        getattr(one, field.name) == getattr(other, field.name)
        for field in fields(Settings)
        if field.name not in skipped
    )


# --- defaults and the documented file -------------------------------------------------------------


def test_defaults(load):
    settings = load(None)
    assert settings.path is None
    assert settings.listen == Listen("localhost", 8000)
    assert settings.public_url == "http://localhost:8000"
    assert settings.allow_plain is False
    assert settings.trusted_proxies == ()
    assert settings.tls is None
    assert settings.data_folder == Path("/home/me/.local/share/llamakey")
    assert settings.contact == ""
    assert settings.people == People()
    assert not settings.unowned_allowed
    assert settings.money == Money("USD", Decimal(1), "UTC")
    assert settings.prices == ()
    assert settings.metering == Metering(True, False, "X-LlamaKey-Tag")
    assert settings.logging == Logging(True, None)
    assert settings.limits == Limits(
        head_bytes=65536,
        head_fields=100,
        head_timeout_s=20,
        keepalive_timeout_s=75,
        body_bytes=1 << 30,
        json_body_bytes=32 << 20,
        signed_body_bytes=32 << 20,
        body_timeout_s=60,
        answer_timeout_s=1800,
        connect_timeout_s=10,
        connections=8000,
        connections_per_address=4000,
        pool_idle=32,
        pool_idle_s=30,
        pool_warm=1,
        upstream_connections=8000,
        answer_head_bytes=65536,
        drain_timeout_s=30,
        retire_timeout_s=3600,
    )
    assert settings.upstream_proxy is None
    assert settings.view == View(1000, 4 << 20, 8081)
    assert settings.warnings == ()
    assert {p.id for p in settings.providers.values()} == set(catalogue.load().entries)


def test_an_empty_file_is_the_defaults(load):
    assert same(load(""), load(None))
    assert load("").path == Path("config.yaml")


def documented() -> str:
    return (REPO / "config.yaml").read_text()


def test_the_documented_file_is_the_defaults(load):
    defaults = load(None)
    assert same(load(documented()), defaults)


def with_lines_to_copy(text: str) -> str:
    """The documented file with each of its lines to copy in force."""
    lines: list[str] = []
    for line in text.splitlines():
        copied = re.fullmatch(r"#(?! \S|$)(.*)", line)
        line = copied[1] if copied else line
        name = re.match(r" *[a-z_]+:", line)
        if not name:
            lines.append(line)
            continue
        # It replaces its default, which stands before it in the same section.
        indent = len(name[0]) - len(name[0].lstrip())
        for at in range(len(lines) - 1, -1, -1):
            before = len(lines[at]) - len(lines[at].lstrip())
            if not lines[at].strip() or lines[at].lstrip().startswith("#"):
                continue
            if before < indent:
                break
            if before == indent and lines[at].startswith(name[0]):
                del lines[at:]
                break
        lines.append(line)
    return "\n".join(lines) + "\n"


def missing(model: type[BaseModel], values: list[dict]) -> set[str]:
    """Settings that stand in none of the values. What stands in one place of a shape that several
    have (a limit, a rule) is known for all of them."""
    known: dict[type[BaseModel], set[str]] = {}
    _collect(model, values, known)
    return {
        f"{part.__name__}.{name}"
        for part, names in known.items()
        for name in set(part.model_fields) - names
    }


def _collect(model: type[BaseModel], values: list[dict], known: dict) -> None:
    known.setdefault(model, set()).update(name for value in values for name in value)
    for name, info in model.model_fields.items():
        inner = [value[name] for value in values if value.get(name) is not None]
        for part in _models(info.annotation):
            parts: list = []
            for value in inner:
                if isinstance(value, list):
                    parts += value
                elif typing.get_origin(info.annotation) is dict:
                    parts += value.values()
                else:
                    parts.append(value)
            _collect(part, parts, known)


def test_the_documented_file_names_every_setting(load, tmp_path):
    """In force or as a line to copy; and each of its lines to copy is valid."""
    text = with_lines_to_copy(documented())
    assert missing(ConfigFile, [yaml.safe_load(text)]) == set()
    (tmp_path / "log").mkdir()
    with pytest.raises(ConfigError) as caught:
        load(text, {"TEAM_OPENAI_KEY": REAL})
    # Its files are examples.
    assert sorted(re.findall(r"(\S+) can't be read", str(caught.value))) == [
        f"{tmp_path}/tls/cert.pem",
        f"{tmp_path}/tls/internal-ca.pem",
    ]
    assert len(caught.value.faults) == 2


def _models(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for a in getattr(annotation, "__args__", ()) for m in _models(a)]


def test_the_schema_is_current():
    written = json.loads((REPO / "llamakey_addon" / "config.schema.json").read_text())
    assert written == Settings.json_schema(), (
        "run: python -m llamakey_addon.config > llamakey_addon/config.schema.json"
    )


def test_the_schema_takes_the_documented_file():
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(Settings.json_schema())
    data = yaml.safe_load(documented())
    jsonschema.Draft202012Validator(Settings.json_schema()).validate(data)


def test_every_setting_is_described():
    def walk(schema: dict) -> list[str]:
        return [
            name
            for name, part in schema.get("properties", {}).items()
            if not part.get("description")
        ]

    schema = Settings.json_schema()
    assert walk(schema) == []
    for name, part in schema["$defs"].items():
        assert walk(part) == [], name


# --- faults ---------------------------------------------------------------------------------------

FAULTS = [
    # text, line, words
    ("listn: x\n", 1, ["unknown setting `listn`", "`listen`"]),
    ("limits:\n  head_byts: 1\n", 2, ["`head_byts`", "`head_bytes`"]),
    ("providers:\n  openai:\n    kye: env:A\n", 3, ["`kye`", "`key`"]),
    ("users:\n  a:\n    allow:\n    - model: [x]\n", 4, ["`model`", "`models`"]),
    ("logging:\n  zzzzzz: 1\n", 2, ["Known here: console, file"]),
    ("\n\nlisten: localhost:99999\n", 3, ["`listen`", "65535"]),
    ("listen: [a]\n", 1, ["`listen`"]),
    ("listen: 0.0.0.0:8000\n", 1, ["plain HTTP", "allow_plain: true", "tls"]),
    ("listen: 10.1.2.3:80\n", 1, ["plain HTTP"]),
    ("public_url: llm.corp\n", 1, ["`public_url`", "https://llm.example.com"]),
    ("allow_plain: please\n", 1, ["true or false"]),
    ("trusted_proxies: 10.0.0.0/8\n", 1, ["a list is expected"]),
    ("trusted_proxies:\n  - 10.0.0.0/8\n  - nonsense\n", 3, ["10.0.0.0/8"]),
    ("tls: {cert: a.pem}\n", 1, ["`tls.key` is missing"]),
    ("tls: {cert: a.pem, key: b.pem}\n", 1, ["a.pem can't be read", "PEM"]),
    ('contact: "a\\nb"\n', 1, ["one line"]),
    ("limits:\n  head_bytes: 64k\n", 2, ["`limits.head_bytes`", "whole number"]),
    ("limits:\n  head_bytes: 1.5\n", 2, ["whole number"]),
    ("limits:\n  head_bytes: true\n", 2, ["whole number"]),
    ("limits:\n  head_bytes: 1\n", 2, ["1024"]),
    ("limits:\n  head_timeout_s: 0\n", 2, ["greater than 0"]),
    ("limits:\n  head_timeout_s: .nan\n", 2, ["`limits.head_timeout_s`"]),
    ("limits:\n  head_timeout_s:\n", 2, ["a number is expected"]),
    ("logging:\n  file: nowhere/x.log\n", 2, ["no folder", "Create it"]),
    ("logging:\n  file: .\n", 2, ["is a folder"]),
    ("logging: yes please\n", 1, ["settings are expected"]),
    ("view: {max_flows: 0}\n", 1, ["greater than or equal to 1"]),
    ("upstream_proxy: proxy:3128\n", 1, ["http://proxy.corp:3128"]),
    ("upstream_proxy: https://proxy:3128\n", 1, ["http://"]),
    ("upstream_proxy: env:NOT_THERE\n", 1, ["set NOT_THERE"]),
    ("a: 1\na: 2\n", 2, ["stands here again"]),
    ("providers: [openai]\n", 1, ["settings are expected"]),
    ("providers:\n  openai: env:A\n", 2, ["settings are expected"]),
]


@pytest.mark.parametrize(("text", "line", "words"), FAULTS)
def test_a_fault_says_where_and_what(load, text, line, words):
    with pytest.raises(ConfigError) as caught:
        load(text)
    fault = next(f for f in caught.value.faults if all(word in f.message for word in words))
    assert fault.where == f"config.yaml:{line}"
    assert not re.search(r"\n|Part\b|pydantic", str(fault))


def test_all_faults_stand_in_one_report_in_their_order(load):
    text = """\
    listen: 0.0.0.0:8000
    publc_url: x
    users:
      a: {allow: [{providers: [opanai]}]}
    providers:
      openai: {upstream: nonsense}
    """
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert [f.where for f in caught.value.faults] == ["config.yaml:2"]  # shape before meaning
    with pytest.raises(ConfigError) as caught:
        load(text.replace("publc_url: x", "public_url: x"))
    assert [f.where for f in caught.value.faults] == [
        f"config.yaml:{line}" for line in (1, 2, 4, 6)
    ]


def test_a_union_makes_one_fault(load):
    with pytest.raises(ConfigError) as caught:
        load("listen: [a]\n")
    assert len(caught.value.faults) == 1


def test_a_named_file_stands_in_faults_as_it_was_named(tmp_path):
    path = tmp_path / "other.yaml"
    path.write_text("x: 1\n")
    with pytest.raises(ConfigError) as caught:
        Settings.load(path, {})
    assert caught.value.faults[0].where == f"{path}:1"
    with pytest.raises(ConfigError, match="no such file"):
        Settings.load(tmp_path / "nope.yaml", {})


@pytest.mark.parametrize(
    "text",
    [
        f"providers:\n  openai:\n    key: {{a: {REAL}}}\n",
        f"providers:\n  openai:\n    key: [{REAL}]\n",
        f"{REAL}: x\n",
        f"listen: {REAL}\n",
        f"providers:\n  {REAL}: {{}}\n",
        f"providers:\n  openai:\n    upstream: https://{REAL}@a\n",
        f"providers:\n  openai:\n    like: {REAL}\n",
        f"providers:\n  mine:\n    upstream: https://a\n    like: {REAL}\n",
        f"users:\n  a: {{allow: [{{providers: [{REAL}]}}]}}\n",
        f"users:\n  a: {{allow: [{{methods: [{REAL}]}}]}}\n",
        f"users:\n  a: {{allow: [{{paths: [{REAL}]}}]}}\n",
        f"upstream_proxy: {REAL}\n",
        f"limits: {REAL}\n",
    ],
)
def test_a_key_in_the_wrong_place_is_not_shown(load, text):
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert REAL not in "".join(traceback.format_exception(caught.value))
    assert REAL not in repr(caught.value.faults)


# --- values ---------------------------------------------------------------------------------------


def test_listen_of_the_command_line_goes_first(load):
    assert load("listen: localhost:1\n", listen="localhost:2").listen.port == 2
    with pytest.raises(ConfigError, match=r"--listen: .*plain HTTP"):
        load("", listen="0.0.0.0:8000")
    assert load("allow_plain: true\n", listen="0.0.0.0:8000").listen.host == "0.0.0.0"


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("listen: localhost:81\n", "http://localhost:81"),
        ("listen: 127.0.0.1:81\n", "http://localhost:81"),
        ("listen: 0.0.0.0:81\nallow_plain: true\n", "http://localhost:81"),
        ("listen: 10.0.0.5:81\nallow_plain: true\n", "http://10.0.0.5:81"),
        ("public_url: https://llm.corp/\n", "https://llm.corp"),
    ],
)
def test_public_url(load, text, url):
    assert load(text).public_url == url


def test_every_interface_without_a_public_url_is_warned_of(load):
    (warning,) = load("allow_plain: true\nlisten: :80\n").warnings
    assert warning.where == "config.yaml:2" and "public_url" in warning.message
    assert load("allow_plain: true\nlisten: :80\npublic_url: http://me\n").warnings == ()


def test_networks(load):
    settings = load('trusted_proxies: ["10.1.2.3/8", "::1", 0.0.0.0/0]\n')
    assert [str(n) for n in settings.trusted_proxies] == ["10.0.0.0/8", "::1/128", "0.0.0.0/0"]
    assert "everybody is believed" in settings.warnings[0].message


@pytest.mark.parametrize(
    ("environ", "platform", "folder"),
    [
        ({"HOME": "/h"}, "linux", "/h/.local/share/llamakey"),
        ({"HOME": "/h", "XDG_DATA_HOME": "/x"}, "linux", "/x/llamakey"),
        ({"HOME": "/h", "XDG_DATA_HOME": "rel"}, "linux", "/h/.local/share/llamakey"),
        ({"HOME": "/h"}, "darwin", "/h/Library/Application Support/llamakey"),
        ({"LOCALAPPDATA": "/l", "HOME": "/h"}, "win32", "/l/llamakey"),
    ],
)
def test_default_data_folder(environ, platform, folder):
    assert default_data_folder(environ, platform) == Path(folder)


def test_data_folder(load, tmp_path):
    assert load("data_folder: data\n").data_folder == tmp_path / "data"
    assert load("data_folder: data\n", {"LLAMAKEY_HOME": "/home2"}).data_folder == Path("/home2")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate with its key, and a key of another one."""
    folder = tmp_path_factory.mktemp("tls")
    for name in ("a", "b"):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem",
             "-subj", "/CN=localhost", "-days", "1"],
            check=True, capture_output=True, timeout=100,
        )  # fmt: skip
    subprocess.run(
        ["openssl", "ec", "-aes128", "-passout", "pass:x", "-in", folder / "a.key", "-out",
         folder / "locked.key"],
        check=True, capture_output=True, timeout=100,
    )  # fmt: skip
    for file in folder.iterdir():
        file.chmod(0o600)
    return folder


def test_tls(load, certificate):
    text = f"listen: 0.0.0.0:1\ntls:\n  cert: {certificate}/a.pem\n  key: {certificate}/a.key\n"
    settings = load(f"{text}public_url: https://x\n")
    assert settings.tls == Tls(certificate / "a.pem", certificate / "a.key")
    assert settings.warnings == ()
    assert load(text).public_url == "https://localhost:1"
    for key in ("b.key", "locked.key"):
        with pytest.raises(ConfigError, match=r"config.yaml:2: .*without a passphrase"):
            load(text.replace("a.key", key))


def test_own_tls(load, tmp_path):
    """What `lmk tls` made serves where config.yaml names no other."""
    folder = tmp_path / "data"
    own = {"LLAMAKEY_HOME": str(folder)}
    assert load("", own).tls is None
    place = certificates.place_in(folder)
    certificates.ensure(place, certificates.OWN_NAMES)
    settings = load("", own)
    assert settings.tls == Tls(place.cert, place.key, own=True)
    assert settings.trust == Trust(place.ca, place.bundle)
    assert settings.public_url == "http://localhost:8000"
    assert load("listen: 0.0.0.0:8000\n", own).public_url == "https://localhost:8000"
    assert load("listen: 192.0.2.7:1\n", own).public_url == "https://192.0.2.7:1"


def test_a_readable_tls_key_is_warned_of(load, certificate, tmp_path):
    key = tmp_path / "a.key"
    key.write_bytes((certificate / "a.key").read_bytes())
    key.chmod(0o644)
    settings = load(f"tls:\n  cert: {certificate}/a.pem\n  key: a.key\n")
    assert [(w.where, "chmod 600" in w.message) for w in settings.warnings] == [
        ("config.yaml:3", True)
    ]


@pytest.mark.parametrize(
    ("text", "url", "warned"),
    [
        ("http://proxy:3128", "http://proxy:3128", False),
        ("http://u:hunter2@proxy:3128", "http://u:hunter2@proxy:3128", True),
        ("env:CORP", "http://u:hunter2@corp:1", False),
    ],
)
def test_upstream_proxy(load, text, url, warned):
    settings = load(f"upstream_proxy: {text}\n", {"CORP": "http://u:hunter2@corp:1"})
    assert settings.upstream_proxy == url
    assert bool(settings.warnings) is warned
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in str(settings.warnings)


def test_a_key_in_a_comment_is_warned_of(load):
    settings = load(f"# old: {REAL}\nlisten: localhost:8000\n")
    assert [w.where for w in settings.warnings] == ["config.yaml:1"]
    assert REAL not in str(settings.warnings)


def test_settings_show_no_key(load):
    settings = load("", {"OPENAI_API_KEY": REAL})
    assert settings.providers["openai"].ready
    assert REAL not in repr(settings)
    assert REAL not in f"{settings}"


def test_loading_again_reads_the_catalogue_no_more(load):
    """Counted in calls: the catalogue alone takes many times as many."""
    load(documented(), {"OPENAI_API_KEY": REAL})
    calls = 0

    def count(frame, event, argument) -> None:
        nonlocal calls
        calls += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        load(documented(), {"OPENAI_API_KEY": REAL})
    finally:
        sys.setprofile(before)
    assert calls < 12_000


def test_nothing_heavy_is_imported():
    code = (
        "import os, sys; from llamakey_addon.config import Settings; Settings.load(None, {}); "
        "print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPO,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    loaded = set(done.stdout.split())
    heavy = {"keyring", "mitmproxy", "sqlite3", "rich", "typer"}
    if sys.version_info >= (3, 13):  # before, pydantic's typing_extensions brings it
        heavy.add("asyncio")
    assert not loaded & heavy
