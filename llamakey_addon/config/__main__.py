"""Print config.yaml's JSON Schema: `python -m llamakey_addon.config > …/config.schema.json`."""

from __future__ import annotations

import json
import sys

from llamakey_addon.config import Settings

sys.stdout.write(json.dumps(Settings.json_schema(), indent=2) + "\n")
