"""The project as files: versions agree, locks cover and name no host, set-up does what it says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import llamakey_addon

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
BASH = shutil.which("bash") or "bash"
LOCKS = [
    ROOT / "requirements.lock",
    ROOT / "tests" / "requirements.lock",
    *sorted((ROOT / "tests" / "sdks").glob("*.lock")),
    ROOT / "tests" / "sdks" / "node" / "package-lock.json",
]
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def wanted(lines: list[str]) -> set[str]:
    """The distributions that requirement lines ask for."""
    matches = (NAME.match(line.strip()) for line in lines if not line.startswith("#"))
    return {plain(match.group()) for match in matches if match}


def locked(lock: Path) -> set[str]:
    return wanted([line for line in lock.read_text().splitlines() if "==" in line])


def test_version_is_told_once():
    assert PYPROJECT["project"]["version"] == llamakey_addon.__version__


def test_both_commands_are_the_same():
    scripts = PYPROJECT["project"]["scripts"]
    assert scripts == dict.fromkeys(["lmk", "llamakey"], "llamakey_addon.cli:main")


def test_lock_covers_the_runtime_and_the_build():
    asked = wanted(PYPROJECT["project"]["dependencies"] + PYPROJECT["build-system"]["requires"])
    assert asked <= locked(ROOT / "requirements.lock")


@pytest.mark.parametrize("name", ["requirements", "sdks/current", "sdks/old"])
def test_lock_covers_its_source(name: str):
    source = (ROOT / "tests" / f"{name}.in").read_text().splitlines()
    assert wanted(source) <= locked(ROOT / "tests" / f"{name}.lock")


def test_locks_for_one_environment_agree():
    """Both go into .venv: where they name the same distribution, they name the same version."""

    def pins(lock: Path) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for name, version in re.findall(r"^([\w.-]+)==([\w.]+)", lock.read_text(), re.M):
            found.setdefault(name, set()).add(version)
        return found

    runtime, tests = pins(LOCKS[0]), pins(LOCKS[1])
    for name in runtime.keys() & tests.keys():
        assert tests[name] <= runtime[name], name


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: str(lock.relative_to(ROOT)))
def test_lock_names_no_index(lock: Path):
    text = lock.read_text()
    assert '"resolved"' not in text
    # Packages' funding pages are no place that anything is fetched from.
    text = re.sub(r'"url": "https?://[^"]*"', "", text)
    assert "://" not in text
    assert not re.search(r"^-", text, re.M)


@pytest.mark.parametrize("lock", LOCKS[:-1], ids=lambda lock: str(lock.relative_to(ROOT)))
def test_every_pin_has_a_hash(lock: Path):
    pins = re.split(r"^(?=[A-Za-z0-9])", lock.read_text(), flags=re.M)[1:]
    assert pins
    for pin in pins:
        assert "--hash=sha256:" in pin, pin.splitlines()[0]


# --- set-up, in a copy of the tree with a Python that only notes what it is asked -----------------

FAKE_PYTHON = """\
#!{bash}
# Plays a Python whose venv and pip note their calls; all else is done by the real one.
case "$*" in
*"-m venv"*)
    echo "venv" >>"$CALLS"
    for env; do :; done
    mkdir -p "$env/bin"
    cp "$0" "$env/bin/python"
    echo "version = 3.13.0" >"$env/pyvenv.cfg" ;;
*"-m pip --version"*) echo "pip" ;;
*"-m pip"*)
    echo "$*" >>"$CALLS"
    sleep "${{PIP_TAKES:-0}}"
    [ -z "${{PIP_FAILS:-}}" ] || exit 1
    env=$(dirname "$0")
    printf '#!{bash}\\necho "lmk was given: $*"\\n' >"$env/lmk"
    echo 'echo "$LLAMAKEY_COMMAND" >"$CALLS.name"' >>"$env/lmk"
    chmod +x "$env/lmk" ;;
*_base_executable*) echo "$0" ;;
*) exec {python} "$@" ;;
esac
"""


class Tree:
    """A copy of what set-up reads, and the calls that its Python noted."""

    def __init__(self, root: Path) -> None:
        self.root = root / "tree"
        self.calls_file = root / "calls"
        shutil.copytree(ROOT / "scripts", self.root / "scripts")
        for name in ("pyproject.toml", "requirements.lock"):
            shutil.copy(ROOT / name, self.root)
        fake = root / "python"
        fake.write_text(FAKE_PYTHON.format(bash=BASH, python=sys.executable))
        fake.chmod(0o755)
        self.env = os.environ | {"CALLS": str(self.calls_file), "LLAMAKEY_PYTHON": str(fake)}

    def start(self, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [BASH, str(self.root / "scripts" / "lmk"), "hello"],
            env=self.env | env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, **env: str) -> subprocess.CompletedProcess[str]:
        process = self.start(**env)
        out, err = process.communicate(timeout=100)
        return subprocess.CompletedProcess([], process.returncode, out, err)

    def calls(self) -> list[str]:
        """What was asked since the last look."""
        calls = self.calls_file.read_text().splitlines() if self.calls_file.exists() else []
        self.calls_file.unlink(missing_ok=True)
        return calls


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_first_start_sets_up_from_the_lock_and_later_ones_do_not(tree: Tree):
    first = tree.run()
    assert first.stdout == "lmk was given: hello\n"
    assert first.stderr.startswith("lmk: setting up .venv (once, ")
    made, from_lock, project = tree.calls()
    assert made == "venv"
    assert "--require-hashes" in from_lock
    assert "--only-binary :all:" in from_lock
    assert from_lock.endswith("requirements.lock")
    for word in ("--no-index", "--no-deps", "--no-build-isolation", "--editable"):
        assert word in project

    second = tree.run()
    assert (second.stdout, second.stderr) == ("lmk was given: hello\n", "")
    assert tree.calls() == []
    # what was typed, for the hints of lmk
    assert Path(f"{tree.calls_file}.name").read_text() == f"{tree.root}/scripts/lmk\n"


@pytest.mark.parametrize("name", ["pyproject.toml", "requirements.lock"])
def test_a_changed_project_is_installed_again(tree: Tree, name: str):
    tree.run()
    tree.calls()
    with (tree.root / name).open("a") as file:
        file.write("# changed\n")
    assert tree.run().returncode == 0
    assert len(tree.calls()) == 2
    assert tree.run().stderr == ""


def test_a_set_up_that_failed_says_so_and_is_made_anew(tree: Tree):
    failed = tree.run(PIP_FAILS="yes")
    assert failed.returncode == 1
    assert failed.stdout == ""
    assert "is there a network" in failed.stderr
    tree.calls()

    half_written = tree.root / ".venv" / "half-written"
    half_written.touch()
    again = tree.run()
    assert again.stdout == "lmk was given: hello\n"
    assert not half_written.exists()
    assert tree.calls()[0] == "venv"


def test_a_killed_set_up_leaves_no_lock_behind(tree: Tree):
    killed = tree.start(PIP_TAKES="1")
    while not tree.calls_file.exists():
        assert killed.poll() is None
    killed.kill()
    killed.communicate()
    assert tree.run().stdout == "lmk was given: hello\n"


def test_two_set_ups_at_once_make_one(tree: Tree):
    starts = [tree.start(PIP_TAKES="0.3") for _ in range(3)]
    for start in starts:
        assert start.communicate(timeout=100)[0] == "lmk was given: hello\n"
    assert tree.calls().count("venv") == 1


def test_a_moved_tree_is_set_up_anew(tree: Tree):
    """The commands of an environment hold its path."""
    tree.run()
    tree.calls()
    tree.root = tree.root.rename(tree.root.with_name("moved"))
    assert tree.run().stdout == "lmk was given: hello\n"
    assert tree.calls()


@pytest.mark.parametrize("old_python", [False, True])
def test_without_a_fitting_python_it_says_what_to_install(tree: Tree, tmp_path: Path, old_python):
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("cat", "cksum", "dirname", "mkdir", "printf", "rm", "id"):
        (tools / name).symlink_to(shutil.which(name) or name)
    if old_python:
        python = tools / "python3"
        python.write_text(f'#!{BASH}\ncase "$2" in *print*) echo 3.11.7 ;; *) exit 1 ;; esac\n')
        python.chmod(0o755)
    tree.env = {"PATH": str(tools), "HOME": str(tmp_path)}
    answer = tree.run()
    assert answer.returncode == 1
    assert answer.stdout == ""
    assert "needs Python 3.12 or newer" in answer.stderr
    for remedy in ("uv python install", "pyenv install", "apt-get install", "brew install"):
        assert remedy in answer.stderr
    assert ("python3 (3.11.7)" in answer.stderr) is old_python
    assert not (tree.root / ".venv").exists()
