"""What `lmk` takes: commands, options, and what becomes of errors. Each command's work stands in a
file of its own, imported when it runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from llamakey_addon import __version__
from llamakey_addon.cli import app_books
from llamakey_addon.cli.app_keys import app as keys_app
from llamakey_addon.cli.options import HELP, Config, Json
from llamakey_addon.errors import ConfigError, LlamaKeyError

USAGE_EXIT = 2
"""Exit code for what is written wrong: the command line or config.yaml."""

_VERSION = ("--version", "-V")

app = typer.Typer(
    name="lmk",
    help="A proxy that holds a team's real LLM keys. Each person gets one local key and calls "
    "every provider through its official SDK, with no change of code.\n\n"
    "Without a command, lmk serves: lmk --listen localhost:9000 is lmk serve --listen …",
    epilog="First time? lmk demo shows it all without a key or a network.",
    context_settings=HELP,
    no_args_is_help=False,
    add_completion=False,
    # Plain help reads the same on a pipe, and comes in half the time.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(keys_app, name="keys")


_Shell = Literal["bash", "fish", "powershell", "dotenv", "json"]
_KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--key-file",
        metavar="FILE",
        help="File with the local key; - is standard input. Default: ./llamakey_local.env.",
        allow_dash=True,
    ),
]
_Url = Annotated[
    str | None, typer.Option("--url", metavar="URL", help="The proxy's URL, as clients reach it.")
]
_For = Annotated[
    str,
    typer.Option(
        "--for",
        metavar="NAMES",
        help="Providers, agents or tools, with commas: openai,claude-code. lmk env --for list "
        "lists them.",
    ),
]
_Listen = Annotated[
    str | None,
    typer.Option(
        "--listen",
        "-l",
        metavar="HOST:PORT",
        help="Where to serve, before config.yaml's. Port 0: a free one.",
    ),
]


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[
        bool, typer.Option(*_VERSION, help="Print versions.", is_eager=True)
    ] = False,
) -> None:
    if version:
        sys.stdout.write(f"{_versions()}\n")
        raise typer.Exit


@app.command(context_settings=HELP)
def serve(
    listen: _Listen = None,
    config: Config = None,
    door: Annotated[
        bool,
        typer.Option(
            "--door",
            help="Open the second door: a port that takes CONNECT, for SDKs that no variable "
            "redirects (`lmk run`).",
        ),
    ] = False,
    web: Annotated[
        bool,
        typer.Option("--web/--no-web", help="Start mitmweb beside the proxy, on loopback."),
    ] = False,
    script: Annotated[
        list[Path] | None,
        typer.Option(
            "--script",
            "-s",
            metavar="FILE",
            help="A mitmproxy addon of yours, beside LlamaKey's. May be given again.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", metavar="N", min=1, max=256, help="Processes that serve, on one port."
        ),
    ] = None,
    verbose: Annotated[
        int, typer.Option("--verbose", "-v", count=True, help="mitmproxy's own log; -vv all of it.")
    ] = 0,
) -> None:
    """Start the proxy. (What lmk alone does.)

    Reads the real keys from the environment and config.yaml, serves until it is stopped, and
    writes the client's environment to ./llamakey_local.env.
    """
    from llamakey_addon.serve.run import Wishes
    from llamakey_addon.serve.run import serve as start

    scripts = tuple(script or ())
    for path in scripts:
        if not path.is_file():
            raise typer.BadParameter(f"there is no file {path}.", param_hint="--script")
    wishes = Wishes(
        config=config,
        listen=listen,
        door=door,
        web=web,
        scripts=scripts,
        verbosity=verbose,
        workers=workers,
    )
    code = start(wishes)
    raise typer.Exit(code)


@app.command(context_settings=HELP)
def env(
    shell: Annotated[_Shell, typer.Option("--shell", help="For which shell or format.")] = "bash",
    names: _For = "",
    key_file: _KeyFile = None,
    url: _Url = None,
    config: Config = None,
) -> None:
    """Print what a client sets, for a shell or a file.

    In a shell's start-up file:

    eval "$(lmk env --key-file ~/llamakey_local.env)"
    """
    from llamakey_addon.cli.env import show

    show(shell=shell, names=names, key_file=key_file, url=url, config=config)


@app.command(context_settings=HELP)
def providers(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Of one: its endpoints, for whitelists.")
    ] = None,
    json: Json = False,
    config: Config = None,
) -> None:
    """List the providers, and what switches them on."""
    from llamakey_addon.cli.providers import show, show_endpoints

    if name is None:
        show(as_json=json, config=config)
    else:
        show_endpoints(name, as_json=json, config=config)


@app.command(context_settings=HELP)
def tls(
    trust: Annotated[
        Path | None,
        typer.Option(
            "--trust",
            metavar="FILE",
            help="On a client's machine: trust this ca.pem of the proxy's machine.",
        ),
    ] = None,
    trust_door: Annotated[
        Path | None,
        typer.Option(
            "--trust-door",
            metavar="FILE",
            help="On a client's machine: trust this ca.pem of the proxy's second door.",
        ),
    ] = None,
    config: Config = None,
) -> None:
    """Make a certificate for clients that insist on TLS.

    It is of an authority of the proxy's own, which can vouch for the proxy's names alone. lmk serve
    then speaks TLS too, on the same port, and lmk env has the variables that make SDKs trust it.
    """
    from llamakey_addon.cli import tls as work

    if trust_door is not None:
        work.trust_door(trust_door, config=config)
    if trust is not None:
        work.trust(trust, config=config)
    if trust is None and trust_door is None:
        work.make(config=config)


@app.command(context_settings=HELP)
def check(config: Config = None, listen: _Listen = None) -> None:
    """Check configuration, keys and port.

    Everything that is wrong in one report, with file and line; then the exit code is 1.
    """
    from llamakey_addon.cli.check import check as look

    raise typer.Exit(look(config=config, listen=listen))


@app.command(context_settings=HELP)
def doctor(
    names: Annotated[
        str,
        typer.Option(
            "--for",
            metavar="NAMES",
            help="Only the clients of these providers, packages or programs, with commas.",
        ),
    ] = "",
    keys: Annotated[bool, typer.Option("--keys", help="Only the real keys.")] = False,
    clients: Annotated[bool, typer.Option("--clients", help="Only the clients.")] = False,
    json: Json = False,
    key_file: _KeyFile = None,
    url: _Url = None,
    config: Config = None,
) -> None:
    """Prove that clients go by the proxy, and that the real keys are good.

    Each SDK and agent that is installed here makes one small call, and the proxy tells whether it
    came by. Where there are real keys, each is tried at its provider. The exit code is 1 where
    something is not as it should be.
    """
    from llamakey_addon.cli.doctor import doctor as look

    raise typer.Exit(
        look(
            names=names,
            keys=keys,
            clients=clients,
            key_file=key_file,
            url=url,
            config=config,
            as_json=json,
        )
    )


@app.command(
    "run",
    context_settings={**HELP, "ignore_unknown_options": True, "allow_interspersed_args": False},
)
def run_(
    command: Annotated[
        list[str], typer.Argument(metavar="COMMAND...", help="The command, after --.")
    ],
    names: _For = "",
    key_file: _KeyFile = None,
    url: _Url = None,
    config: Config = None,
) -> None:
    """Run a command by way of the proxy.

    It gets the client's environment, and none of the real keys.
    For example: lmk run -- python app.py
    """
    from llamakey_addon.cli.run import run as start

    start(command, names=names, key_file=key_file, url=url, config=config)


@app.command(context_settings=HELP)
def demo() -> None:
    """Show how it works, in a few seconds.

    Starts a fake provider and the proxy, and makes a call. Needs no key and no network.
    """
    from llamakey_addon.cli.demo import demo as show

    raise typer.Exit(show())


@app.command(context_settings=HELP)
def script() -> None:
    """Print the path of the script for mitmdump -s."""
    from llamakey_addon.cli.env import script_path

    sys.stdout.write(f"{script_path()}\n")


app_books.add_to(app)


def _versions() -> str:
    from importlib.metadata import version
    from platform import python_version

    return f"lmk {__version__} (mitmproxy {version('mitmproxy')}, Python {python_version()})"


@cache
def _command() -> Any:
    """The whole command, which takes longer to put together than most of its parts to run."""
    return typer.main.get_command(app)


def run(arguments: Sequence[str]) -> int:
    """Run the command; its exit code. What a person did wrong becomes a sentence."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A console that cannot spell a bullet shows `?`.
            stream.reconfigure(errors="replace")
    if arguments and all(argument in _VERSION for argument in arguments):
        # Before typer, which loads pydantic for any command.
        sys.stdout.write(f"{_versions()}\n")
        return 0
    try:
        _command()(_with_command(arguments), prog_name=os.environ.get("LLAMAKEY_COMMAND") or "lmk")
    except SystemExit as end:
        return _code(end)
    except ConfigError as error:
        _complain(*(str(fault) for fault in error.faults))
        return USAGE_EXIT
    except LlamaKeyError as error:
        _complain(str(error))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Who reads has gone (lmk providers | head). What is left unwritten must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        _complain(f"{what}{error.strerror or error}")
    return 1


def _with_command(arguments: Sequence[str]) -> list[str]:
    """`lmk` alone, and `lmk --listen …`, are `lmk serve`."""
    first = arguments[0] if arguments else ""
    if not first or (first.startswith("-") and first not in ("-h", "--help", *_VERSION)):
        return ["serve", *arguments]
    return list(arguments)


def _complain(*faults: str) -> None:
    from llamakey_addon.serve import show

    for fault in faults:
        show.error(fault, sys.stderr)


def _code(end: SystemExit) -> int:
    if end.code is None:
        return 0
    return end.code if isinstance(end.code, int) else 1
