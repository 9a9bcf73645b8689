"""What `mitmdump -s`, `mitmweb -s` and `mitmproxy -s` load. `lmk script` prints this file's path.

mitmproxy loads a script under another module name, without its package, and puts the script's
folder first on the path; so the package is imported by its absolute name, from the folder above
where it is not installed.
"""

import sys
from pathlib import Path

try:
    import llamakey_addon
except ModuleNotFoundError:
    sys.path.append(str(Path(__file__).resolve().parent.parent))
    import llamakey_addon  # noqa: F401

from llamakey_addon.addon import LlamaKey

addons = [LlamaKey()]
