"""`lmk doctor`: whether clients really go by the proxy, and whether the real keys are good."""

from __future__ import annotations

import difflib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from llamakey_addon.cli import doctor_clients, doctor_keys
from llamakey_addon.cli.doctor_clients import Environs, Place, Verdict
from llamakey_addon.cli.doctor_keys import Finding
from llamakey_addon.cli.env import (
    KeySource,
    NoKey,
    door_of,
    folder_of,
    read_key,
    ready,
    served,
    split,
)
from llamakey_addon.cli.errors import Miswritten
from llamakey_addon.cli.run import client_environment, past_proxies, through_door
from llamakey_addon.cli.table import Cell, Column, Row, print_table
from llamakey_addon.clients import agents, probing
from llamakey_addon.clients.probing import Probe
from llamakey_addon.config import Settings
from llamakey_addon.serve import envfile
from llamakey_addon.serve import show as showing

_STYLES = {"through": "green", "ok": "green", "untested": "dim"}


def doctor(
    *,
    names: str,
    keys: bool,
    clients: bool,
    key_file: Path | None,
    url: str | None,
    config: Path | None,
    as_json: bool,
) -> int:
    """Look and print; 0 when all is well, else 1.

    Arguments:
        keys, clients: look at these alone. With neither: at the clients where there is a local key,
            and at the real keys where there are any.
    """
    settings = Settings.load(config, os.environ)
    both = keys == clients
    source = read_key(key_file) if clients or both else None
    owner = bool(envfile.served(settings.providers.values()))
    if source is None and (clients or (both and not owner)):
        raise NoKey(
            f"There is no ./{envfile.FILE_NAME} with a local key. Start lmk here first, or name "
            "the file by --key-file."
        )
    verdicts: list[Verdict] | None = None
    if source is not None:
        verdicts = _clients(settings, source, split(names), key_file, url, tell=not as_json)
    findings: list[Finding] | None = None
    if keys or (both and owner and not names):
        findings = doctor_keys.look(settings)
    if as_json:
        showing.say(json.dumps(_record(verdicts, findings), indent=2, ensure_ascii=False))
    else:
        _show(verdicts, findings)
    bad = any(verdict.state not in doctor_clients.GOOD for verdict in verdicts or ())
    bad = bad or any(finding.state not in doctor_keys.GOOD for finding in findings or ())
    return 1 if bad else 0


def _clients(
    settings: Settings,
    source: KeySource,
    names: Sequence[str],
    key_file: Path | None,
    url: str | None,
    *,
    tell: bool,
) -> list[Verdict]:
    probes = _chosen(names)
    where = (url or source.url or settings.public_url).rstrip("/")
    place = Place(where, source.key, str(settings.trust.ca) if settings.trust else "")
    place.me()  # before anything is started
    door_url = door_of(settings, source)
    if settings.door.trust is None:
        door_url = ""
    made: dict[tuple[tuple[str, ...], str], Environs] = {}

    def environs(probe: Probe) -> Environs:
        command = probe.package if probe.language == "command" else ""
        if (probe.names, command) not in made:
            folder = folder_of(key_file)
            lines = ready(settings, source, probe.names, url, folder, command=command)
            front = client_environment(settings, lines)
            second = None
            if door_url:
                second = dict(front)
                through_door(second, door_url, source.key, settings)
                past_proxies(second, lines)
            made[probe.names, command] = Environs(front, second)
        return made[probe.names, command]

    installed = doctor_clients.find(probes, os.environ, lambda probe: environs(probe).front)
    # a name that is given is what somebody knows to be served; `-` is none
    known = {each.id: each for each in served(settings, source, [*names] or ["-"])}
    if tell:
        showing.prose(
            f"{len(installed)} clients are here; each makes one small call to {where}.", sys.stderr
        )
    wanted = [environs(each.probe) for each in installed]
    return doctor_clients.test(installed, wanted, known, place, door_url)


def _chosen(names: Sequence[str]) -> list[Probe]:
    """Probes of these providers, packages, programs or agents; without names all.

    Raises Miswritten.
    """
    probes = probing.load()
    if not names:
        return list(probes)
    chosen: list[Probe] = []
    known: set[str] = set()
    for probe in probes:
        own = {probe.provider, probe.package}
        if probe.language == "command" and (agent := agents.of_command(probe.package)):
            own.add(agent.id)
        known |= own
        if not own.isdisjoint(names):
            chosen.append(probe)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known), n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise Miswritten(
                f"--for {name}: no call of a client of this name is known.{hint} It may be a "
                "provider, a package or a program."
            )
    return chosen


def _show(verdicts: Sequence[Verdict] | None, findings: Sequence[Finding] | None) -> None:
    out = sys.stdout
    rows: list[Row]
    if verdicts is not None:
        if not verdicts:
            showing.say("No client that is known is installed here.")
        columns = [
            Column("Client", whole=True),
            Column("Version", drop=1),
            Column("Traffic", whole=True),
            Column("Door", whole=True),
            Column("To do"),
        ]
        rows = [
            [
                each.installed.probe.client,
                each.installed.version,
                Cell(_WORDS[each.state], _STYLES.get(each.state, "red")),
                each.door,
                each.told,
            ]
            for each in verdicts
        ]
        if rows:
            print_table(columns, rows, out)
    if findings is not None:
        if verdicts is not None:
            showing.say("", out)
        columns = [
            Column("Provider", whole=True),
            Column("Key", drop=1),
            Column("Is", whole=True),
            Column("To do"),
        ]
        rows = [
            [
                each.provider.id,
                showing.key_of(each.provider),
                Cell(each.state, _STYLES.get(each.state, "red")),
                each.told,
            ]
            for each in findings
        ]
        print_table(columns, rows, out)
        if not findings:
            showing.say("No real key is set here: `lmk providers` says how it is done.", out)


_WORDS = {
    "through": "by the proxy",
    "refused": "refused by it",
    "around": "PAST THE PROXY",
    "silent": "did not come",
    "failed": "no call",
    "untested": "not tried",
}


def _record(
    verdicts: Sequence[Verdict] | None, findings: Sequence[Finding] | None
) -> dict[str, object]:
    record: dict[str, object] = {}
    if verdicts is not None:
        record["clients"] = [
            {
                "client": each.installed.probe.client,
                "version": each.installed.version,
                "provider": each.installed.probe.provider,
                "state": each.state,
                "door": each.door or None,
                "request": each.request or None,
                "hosts": list(each.strays),
                "told": each.told,
            }
            for each in verdicts
        ]
    if findings is not None:
        record["keys"] = [
            {
                "provider": each.provider.id,
                "state": each.state,
                "status": each.status or None,
                "key": showing.key_of(each.provider),
                "told": each.told,
            }
            for each in findings
        ]
    return record
