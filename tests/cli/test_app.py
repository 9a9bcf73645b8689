"""The command as such: help, versions, what becomes of errors, and how fast it starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import ANSI, LMK
from tests.starts import ROOT

HEAVY = ("mitmproxy", "tornado", "rich", "asyncio")


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_names_every_command(lmk, option):
    done = lmk(option)
    assert done.code == 0
    for name in ("serve", "keys", "env", "providers", "check", "run", "demo", "script"):
        assert f"\n  {name} " in done.out
    assert not ANSI.search(done.out)


COMMANDS = "serve,keys,keys new,keys list,keys revoke,env,providers,check,run,demo,script"


@pytest.mark.parametrize("command", COMMANDS.split(","))
def test_every_command_has_help(lmk, command):
    done = lmk(*command.split(), "-h")
    assert done.code == 0
    assert done.out.startswith(f"Usage: lmk {command} ")


def test_version(lmk):
    done = lmk("--version")
    assert done.code == 0
    assert done.out.startswith("lmk 0.")
    assert "mitmproxy 12." in done.out


def test_a_mistyped_option_is_told_and_not_traced(lmk):
    done = lmk("env", "--shel", "fish")
    assert done.code == 2
    assert "--shell" in done.err
    assert "Traceback" not in done.err


def test_a_mistyped_command_is_told_and_not_traced(lmk):
    done = lmk("kesy", "list")
    assert done.code == 2
    assert "kesy" in done.err
    assert "Traceback" not in done.err


def test_options_without_a_command_are_serve_s(lmk):
    done = lmk("--listen", "nonsense:port")
    assert done.code == 2
    assert "error: --listen: `listen`:" in done.err


def test_a_reader_that_goes_is_no_error(lmk):
    process = subprocess.Popen(
        [*LMK, "providers"],
        cwd=lmk.folder,
        env=lmk.environment({"PYTHONUNBUFFERED": "1"}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    error = process.stderr.read().decode()
    process.wait(60)
    process.stderr.close()
    assert "Traceback" not in error
    assert "BrokenPipe" not in error


def test_a_console_that_cannot_spell_shows_something(lmk):
    done = lmk("--help", env={"PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii", "LANG": "C"})
    assert done.code == 0
    assert "Commands:" in done.out


def test_no_command_loads_what_it_does_not_need(lmk):
    """In one process: what stays loaded of one command, the next ones may have loaded too."""
    commands = [
        (["--version"], (*HEAVY, "pydantic", "yaml")),
        (["--help"], (*HEAVY, "pydantic", "yaml")),
        (["keys", "list"], (*HEAVY, "yaml")),
        (["keys", "new", "bob"], (*HEAVY, "yaml")),
        (["env"], HEAVY),
        (["providers"], HEAVY),
        (["script"], HEAVY),
        (["check"], ("mitmproxy", "tornado", "rich")),
    ]
    program = (
        "import sys\n"
        "from llamakey_addon.cli import main\n"
        f"for arguments, heavy in {commands!r}:\n"
        "    main(arguments)\n"
        "    print('loaded by', arguments, set(heavy) & set(sys.modules))\n"
    )
    done = lmk(command=[sys.executable, "-c", program])
    told = [line for line in done.out.splitlines() if line.startswith("loaded by")]
    assert told == [f"loaded by {arguments} set()" for arguments, _ in commands], done.err


def test_an_old_python_is_told_what_to_do():
    """Every Python that the machine has below ours, or else ours in disguise."""
    program = "from llamakey_addon.cli import main; raise SystemExit(main())"
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    old = sorted(versions.glob("3.1[01].*/bin/python")) + sorted(
        versions.glob("3.[89].*/bin/python")
    )
    for python in old:
        done = subprocess.run(
            [python, "-c", program],
            env={"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert done.stderr.startswith("error: LlamaKey needs Python 3.12 or newer, and this is 3.")
        assert done.stderr.count("\n") == 1
    disguise = "import sys; sys.version_info = (3, 11, 7, 'final', 0)\n" + program
    done = subprocess.run(
        [sys.executable, "-c", disguise],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "pipx install --python" in done.stderr


def test_script_is_the_file_that_mitmdump_loads(lmk):
    done = lmk("script")
    assert done.out == f"{ROOT / 'llamakey_addon' / 'script.py'}\n"
