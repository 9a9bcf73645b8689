"""What `lmk keys` takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llamakey_addon.cli.options import HELP, Config, Json

if TYPE_CHECKING:
    from llamakey_addon.cli.keys import Form

app = typer.Typer(
    help="Make, list, rotate and revoke local keys; find leaked ones.",
    context_settings=HELP,
    no_args_is_help=True,
    rich_markup_mode=None,
)

_Name = Annotated[str, typer.Argument(metavar="NAME", help="Name or id of the key.")]
_Env = Annotated[bool, typer.Option("--env", help="Print the complete file for its owner.")]
_VertexFile = Annotated[
    Path | None,
    typer.Option(
        "--vertex-file", metavar="FILE", help="Write a key file for Google's Vertex AI SDKs, too."
    ),
]
_EXPIRES = "When it expires: 30d, 12h, or a day such as 2026-12-31 (with all of it)."


@app.command("new", context_settings=HELP)
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the key, e.g. bob-laptop.")],
    user: Annotated[
        str | None,
        typer.Option("--user", metavar="USER", help="Whose it is. Default: NAME."),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            "--allow",
            metavar="WHAT",
            help="Only these providers, with commas; openai/chat: an endpoint; openai:gpt-5*: "
            "models. lmk providers NAME shows the endpoints.",
        ),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option("--models", metavar="GLOBS", help="Only these models: gpt-5*,claude-*."),
    ] = None,
    deny: Annotated[
        list[str] | None,
        typer.Option("--deny", metavar="WHAT", help="None of these; written as for --allow."),
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            "--limit",
            metavar="HOW-MUCH",
            help="60/minute, '100k tokens/day', '4 at once'. May be given again.",
        ),
    ] = None,
    budget: Annotated[
        list[str] | None,
        typer.Option(
            "--budget", metavar="MONEY", help="5/day, 100/month; 50 in all. May be given again."
        ),
    ] = None,
    scope: Annotated[
        Path | None,
        typer.Option(
            "--scope",
            metavar="FILE",
            help="YAML or JSON of all that the key may, as a user's part of config.yaml.",
        ),
    ] = None,
    expires: Annotated[str, typer.Option("--expires", metavar="WHEN", help=_EXPIRES)] = "",
    networks: Annotated[
        list[str] | None,
        typer.Option("--from", metavar="NETWORKS", help="Only from there: 10.0.0.0/8,192.0.2.7."),
    ] = None,
    env: _Env = False,
    vertex_file: _VertexFile = None,
    json: Json = False,
    config: Config = None,
) -> None:
    """Make a local key. It is shown this once, and kept as a hash.

    It may do what its user may, or the part of it that the options name.
    """
    from llamakey_addon.cli import keys
    from llamakey_addon.cli.scope import Wishes

    wishes = keys.New(
        name,
        user or name,
        Wishes(allow or (), models or (), deny or (), limit or (), budget or (), scope),
        expires,
        networks or (),
    )
    keys.new(wishes, _form(env, json, vertex_file), config=config)


@app.command("list", context_settings=HELP)
def list_(
    user: Annotated[
        str | None, typer.Option("--user", metavar="USER", help="Of this user alone.")
    ] = None,
    valid: Annotated[bool, typer.Option("--valid", help="Valid ones alone.")] = False,
    json: Json = False,
    config: Config = None,
) -> None:
    """List the local keys: whose, what they may, last use; ended ones too."""
    from llamakey_addon.cli import keys

    keys.show(user=user, valid=valid, as_json=json, config=config)


@app.command("rotate", context_settings=HELP)
def rotate(
    name: _Name,
    overlap: Annotated[
        str,
        typer.Option(
            "--overlap", metavar="TIME", help="How long the old key stays valid: 24h, 7d, 0."
        ),
    ] = "24h",
    expires: Annotated[
        str | None,
        typer.Option(
            "--expires",
            metavar="WHEN",
            help="When the new one expires: 30d, 2026-12-31, never. Default: after as long as the "
            "old one was given.",
        ),
    ] = None,
    env: _Env = False,
    vertex_file: _VertexFile = None,
    json: Json = False,
    config: Config = None,
) -> None:
    """Put a new key in the place of one: same name, user and scope.

    Both are valid until the overlap ends.
    """
    from llamakey_addon.cli import keys

    keys.rotate(
        name, overlap=overlap, expires=expires, form=_form(env, json, vertex_file), config=config
    )


@app.command("revoke", context_settings=HELP)
def revoke(name: _Name, json: Json = False, config: Config = None) -> None:
    """Revoke a local key, at once.

    A running proxy refuses it from its next request on, and within a second ends the answers that
    still stream by it. By a name: those that it was rotated from, too.
    """
    from llamakey_addon.cli import keys

    keys.revoke(name, as_json=json, config=config)


@app.command("expire", context_settings=HELP)
def expire(
    name: _Name,
    at: Annotated[
        str | None, typer.Option("--at", metavar="WHEN", help="2026-12-31, 2026-12-31T18:00.")
    ] = None,
    within: Annotated[
        str | None, typer.Option("--in", metavar="TIME", help="After 30d, 12h, from now.")
    ] = None,
    never: Annotated[bool, typer.Option("--never", help="Take an expiry away.")] = False,
    json: Json = False,
    config: Config = None,
) -> None:
    """Say when a local key expires."""
    from llamakey_addon.cli import keys

    keys.expire(name, at=at, within=within, never=never, as_json=json, config=config)


@app.command("find", context_settings=HELP)
def find(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...", help="Files or folders; - is standard input.", allow_dash=True
        ),
    ],
    json: Json = False,
    config: Config = None,
) -> None:
    """Find local keys in files and logs: where, whose, and whether they are valid.

    The exit code is 1 when a valid key stands there, and 2 when a file can't be read.
    """
    from llamakey_addon.cli.find import find as look

    raise typer.Exit(look(files, as_json=json, config=config))


def _form(env: bool, json: bool, vertex_file: Path | None) -> Form:
    from llamakey_addon.cli.keys import Form

    if env and json:
        raise typer.BadParameter("--env and --json are two forms. Choose one.")
    return Form(env=env, as_json=json, vertex_file=vertex_file)
