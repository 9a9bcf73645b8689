"""What `lmk users`, `lmk teams` and `lmk usage` take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llamakey_addon.cli.options import HELP, Config, Json

if TYPE_CHECKING:
    from llamakey_addon.cli.usage import Form
    from llamakey_addon.store.ledger import Of


def add_to(app: typer.Typer) -> None:
    app.command(context_settings=HELP)(users)
    app.command(context_settings=HELP)(teams)
    app.command(context_settings=HELP)(usage)


def _of(option: str, what: str) -> typer.models.OptionInfo:
    info: typer.models.OptionInfo = typer.Option(option, metavar=option[2:].upper(), help=what)
    return info


def usage(
    by: Annotated[
        str,
        typer.Option(
            "--by",
            metavar="GROUPS",
            help="user, team, key, provider, endpoint, model, tag, day, status or quality; "
            "several with commas.",
        ),
    ] = "user",
    since: Annotated[
        str,
        typer.Option(
            "--since", metavar="WHEN", help="7d, today, 2026-07-01. Default: this month's first."
        ),
    ] = "",
    until: Annotated[
        str, typer.Option("--until", metavar="WHEN", help="A day with all of it. Default: now.")
    ] = "",
    month: Annotated[
        str, typer.Option("--month", metavar="MONTH", help="A calendar month: 2026-07.")
    ] = "",
    user: Annotated[str, _of("--user", "Of this user alone.")] = "",
    team: Annotated[str, _of("--team", "Of this team alone.")] = "",
    key: Annotated[str, _of("--key", "Of this key alone, by name or id.")] = "",
    provider: Annotated[str, _of("--provider", "Of this provider alone.")] = "",
    model: Annotated[str, _of("--model", "Of this model alone.")] = "",
    tag: Annotated[str, _of("--tag", "Of this session tag alone.")] = "",
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    json: Json = False,
    reconcile: Annotated[
        Path | None,
        typer.Option(
            "--reconcile",
            metavar="FILE",
            help="Compare with a provider's usage export, a CSV by day (UTC) and model.",
        ),
    ] = None,
    tolerance: Annotated[
        str,
        typer.Option(
            "--tolerance", metavar="PERCENT", help="Difference that --reconcile lets pass."
        ),
    ] = "1%",
    config: Config = None,
) -> None:
    """Show who spent what, from the ledger.

    Requests, tokens and money. Days and currency are those of `money` in config.yaml. With
    --reconcile, the exit code is 1 when a model differs by more than the tolerance.
    """
    if as_csv and json:
        raise typer.BadParameter("--csv and --json are two forms. Choose one.")
    form: Form = "csv" if as_csv else "json" if json else "table"
    if reconcile is not None:
        from llamakey_addon.cli.reconcile import reconcile as compare

        raise typer.Exit(
            compare(reconcile, provider=provider, tolerance=tolerance, form=form, config=config)
        )
    from llamakey_addon.cli.report import Wishes
    from llamakey_addon.cli.usage import usage as show

    given: dict[Of, str] = {
        "user": user,
        "team": team,
        "key": key,
        "provider": provider,
        "model": model,
        "tag": tag,
    }
    where = {of: value for of, value in given.items() if value}
    show(Wishes(by, since, until, month, where), form, config=config)


def users(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Of one: all that holds for them.")
    ] = None,
    json: Json = False,
    config: Config = None,
) -> None:
    """List users, and what is left for each.

    Their team, keys, rules, limits and budgets, of config.yaml and of keys.
    """
    from llamakey_addon.cli import people

    if name is None:
        people.show_users(as_json=json, config=config)
    else:
        people.show_user(name, as_json=json, config=config)


def teams(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Of one: all that holds for it.")
    ] = None,
    json: Json = False,
    config: Config = None,
) -> None:
    """List teams, and what is left for each."""
    from llamakey_addon.cli import people

    if name is None:
        people.show_teams(as_json=json, config=config)
    else:
        people.show_team(name, as_json=json, config=config)
