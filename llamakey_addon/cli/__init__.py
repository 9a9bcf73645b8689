"""The command `lmk` (and `llamakey`, which is the same).

Kept to what old Pythons can read, so that they get a sentence and no traceback. Everything else is
imported when it is needed: `lmk env` in a shell's start-up file must not load a proxy.
"""

from __future__ import annotations

import sys
from typing import Sequence  # noqa: UP035  this file is read by old Pythons too

NEEDS = (3, 12)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit code. Without arguments, those of the process."""
    if sys.version_info < NEEDS:
        sys.stderr.write(
            "error: LlamaKey needs Python 3.12 or newer, and this is {}.{}.{} ({}). Install it "
            "with a newer one, e.g. pipx install --python python3.12 llamakey\n".format(
                *sys.version_info[:3], sys.executable
            )
        )
        return 1
    from llamakey_addon.cli.app import run

    return run(sys.argv[1:] if arguments is None else arguments)
