"""The limit of open files, raised as far as it may be, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("resource")

PROGRAM = """
import resource, sys
from types import SimpleNamespace
from llamakey_addon.serve.openfiles import make_room
soft, hard, connections = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(make_room(SimpleNamespace(connections=connections)))
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


def room(soft: int, hard: int, connections: int) -> tuple[str, int]:
    """The warning, and the soft limit afterwards."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(soft), str(hard), str(connections)],
        capture_output=True,
        text=True,
        check=True,
    )
    warning, limit = done.stdout.splitlines()
    return warning, int(limit)


def test_raised_to_what_is_needed():
    assert room(128, 4096, 1000) == ("", 2064)


def test_left_where_it_is_enough():
    assert room(2100, 4096, 1000) == ("", 2100)


def test_raised_as_far_as_may_be_and_warned_with_figures():
    warning, limit = room(128, 1064, 1000)
    assert limit == 1064
    assert "1064 open files are allowed, enough for about 500 connections" in warning
    assert "limits.connections is 1000" in warning
    assert "raise the limit to 2064" in warning
