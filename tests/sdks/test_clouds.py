"""SDKs whose credentials are made, through the proxy, against clouds that verify each signature."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests import harness
from tests.cli.command import Lmk
from tests.conftest import Start
from tests.fakes import World
from tests.fakes.families import logins
from tests.harness import Proxy
from tests.sdks.clouds import CLOUDS, Cloud
from tests.sdks.run import Run
from tests.sdks.runner import execute, faults, places
from tests.sdks.test_sdks import check_denials, served, sourced

METERED = re.compile(
    r"(converse|invoke|anthropic|(express\.)?generate)(\.stream)?$|express\.stream$"
)
SERVERS = ("google-oauth", "entra", "vectara-auth")
"""Of tokens: the proxy asks them when it likes."""
TRUST = ("AWS_CA_BUNDLE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


def login_config(world: World) -> dict[str, Any]:
    """What an owner writes who has no keys of Azure's and Vectara's, but one of Vertex AI's."""
    endpoint = {"like": "hfendpoint", "key": "env:FAKE_HFENDPOINT_KEY", "ca": str(world.ca)}
    client = {"client_id": logins.CLIENT}
    entra = f"{world.origin('entra')}/{{tenant}}/oauth2/v2.0/token"
    vectara = f"{world.origin('vectara-auth')}/oauth2/token"
    return {
        "azure": {
            "login": {
                **client,
                "tenant": logins.TENANT,
                "client_secret": "env:FAKE_ENTRA_KEY",
                "token_url": entra,
            }
        },
        "vectara": {
            "login": {
                **client,
                "client_secret": "env:FAKE_VECTARA_AUTH_KEY",
                "token_url": vectara,
            }
        },
        # each dedicated endpoint at a prefix of its own
        "llama": {**endpoint, "upstream": world.origin("hfendpoint")},
        "bge": {**endpoint, "upstream": world.origin("hfendpoint", "plain")},
        "vertex": {"login": None, "key": "env:FAKE_VERTEX_KEY", "metadata": "metadata"},
    }


class Team:
    """A proxy, and what of it is made once."""

    def __init__(self, proxy: Proxy, world: World, folder: Path) -> None:
        self.proxy = proxy
        self.env_file = proxy.folder / "llamakey_local.env"
        self.key = sourced(self.env_file)["LLAMAKEY_API_KEY"]
        self.denied = harness.mint(folder, "mallory")
        self.limited = proxy.mint("bob")
        proxy.mint("alice", "metadata")
        proxy.keys += [self.denied, self.key]
        world.forbid(self.key)
        world.forbid(self.denied)


_TEAMS: dict[int, Team] = {}


@pytest.fixture
def team_of(shared_proxy: Start, world: World, tmp_path_factory: pytest.TempPathFactory) -> Any:
    def get(cloud: Cloud) -> Team:
        config = {"providers": login_config(world)} if cloud.logins else None
        proxy = shared_proxy(own_tls=True, config=config)
        if id(proxy) not in _TEAMS:
            _TEAMS[id(proxy)] = Team(proxy, world, tmp_path_factory.mktemp("elsewhere"))
        return _TEAMS[id(proxy)]

    return get


def environment(cloud: Cloud, team: Team, url: str, folder: Path) -> dict[str, str]:
    """What `lmk env` gives a person on their own machine, who was handed the owner's file."""
    lmk = Lmk(folder / "work")
    lmk.folder.mkdir()
    shutil.copy(team.env_file, lmk.folder)
    done = lmk.here("env", "--for", cloud.names, "--url", url)
    assert done.code == 0, done.err
    (folder / "told.env").write_text(done.out)
    told = sourced(folder / "told.env")
    if cloud.tls:
        told |= {name: sourced(team.env_file)[name] for name in TRUST}
    return told


def key_file(team: Team, folder: Path) -> Path:
    """A key file of a key of its own, as the proxy's owner makes it."""
    path = folder / "key.json"
    owner = Lmk(team.proxy.folder, {"LLAMAKEY_HOME": str(team.proxy.home)})
    name = f"file-{folder.name}"
    done = owner.here("keys", "new", name, "--user", "alice", "--vertex-file", str(path))
    assert done.code == 0, done.err
    team.proxy.keys.append(done.out.strip())
    return path


@pytest.mark.sdk
@pytest.mark.parametrize("cloud", CLOUDS, ids=lambda cloud: cloud.id)
def test_cloud(cloud: Cloud, team_of: Any, world: World, tmp_path: Path) -> None:
    team: Team = team_of(cloud)
    proxy = team.proxy
    url = f"https://localhost:{proxy.port}" if cloud.tls else proxy.url
    words = places({id: f"{url}/{id}" for id in world.keys}, {})
    words |= {"proxy": url, "port": str(proxy.port), "key": team.key}
    if "{key_file}" in cloud.own.values():
        words["key_file"] = str(key_file(team, tmp_path))
    env = environment(cloud, team, url, tmp_path)
    own = {name: value.format_map(words) for name, value in cloud.own.items()}
    env = {name: value for name, value in (env | own).items() if value}
    run = Run(
        cloud.id,
        cloud.program,
        (),
        {},
        dict(cloud.expect),
        cloud.environment,
        strays=cloud.strays,
    )
    since, lines = world.mark(), len(proxy.log())

    args = tuple(value.format_map(words) for value in cloud.args)
    outcome = execute(run, env, args, tmp_path, denied=team.denied, limited=team.limited)

    assert faults(run, outcome) == []
    check_denials(run, outcome, proxy)
    seen = [request for request in world.requests(since=since) if request.family not in SERVERS]
    assert {request.credential for request in seen} == {"real"}
    sent = [line for line in served(proxy, lines, len(seen)) if line["end"] != "answered here"]
    assert len(seen) == len(sent)
    # metered by the providers' own figures, in event streams too
    told = [line for line in sent if METERED.match(line["endpoint"]) and line["status"] == 200]
    assert {(line["input_tokens"], line["output_tokens"]) for line in told} <= {(9, 4)}
    assert told or cloud.id in ("vectara-oauth", "huggingface-endpoints", "azure-entra")
