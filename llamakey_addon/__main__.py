"""`python -m llamakey_addon` is `lmk`."""

import sys

from llamakey_addon.cli import main

if __name__ == "__main__":
    sys.exit(main())
