"""What a request's row and counters cost: CPU µs of admit + settle, with caps and without.

    .venv/bin/python scripts/bench/ledger.py [--folder FOLDER] [--requests N] [--rounds N]

The store alone, and with the stage before it (which caps apply, the estimate); for a request that
comes alone, and for one of four or sixteen that come in one turn of the loop and are admitted in
one transaction. Rows are closed with the next admission; "settled at once" is a row that is closed
in a transaction of its own. The least of the rounds is what it costs; the rest is what the machine
did beside.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from llamakey_addon.admit import Admission  # noqa: E402
from llamakey_addon.config import Settings  # noqa: E402
from llamakey_addon.estimate import Estimates  # noqa: E402
from llamakey_addon.journey import Ask, Call, User, Visit  # noqa: E402
from llamakey_addon.meter import Asked  # noqa: E402
from llamakey_addon.prices import Prices  # noqa: E402
from llamakey_addon.route import find  # noqa: E402
from llamakey_addon.store import open_store  # noqa: E402
from llamakey_addon.store.ledger import Closing, Hold  # noqa: E402
from scripts.bench import figures  # noqa: E402

CAPS = {
    "limits": [
        {"requests": 10**9, "per": "minute"},
        {"tokens": 10**12, "per": "hour"},
        {"concurrent": 10**6},
    ],
    "budgets": [{"spend": 10**6, "per": "day"}, {"spend": 10**7, "per": "month"}],
}
BODY = b'{"model": "gpt-5-mini", "max_tokens": 400, "messages": [{"content": "%s"}]}' % (b"x" * 230)
ROW = Closing(200, "complete", "exact", {"input_tokens": 70, "output_tokens": 150}, 317_500)


WAYS = (
    ("store alone", 1),
    ("store alone, of 4", 4),
    ("store alone, of 16", 16),
    ("with its stage", 1),
    ("with its stage, of 16", 16),
    ("with its stage, settled at once", 1),
)
"""With how many a request is admitted."""


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument(
        "--folder", type=Path, help="where the store is made; default: a new one"
    )
    arguments.add_argument("--requests", type=int, default=1600)
    arguments.add_argument("--rounds", type=int, default=20)
    chosen = arguments.parse_args()
    print(f"{figures.machine()}.\n")
    rows = []
    for name, caps in (("3 limits and 2 budgets", CAPS), ("no cap", {})):
        for way, together in WAYS:
            with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
                took = measure(Path(folder), caps, way, together, chosen.requests, chosen.rounds)
            rows.append([f"{name}, {way}", figures.spread(took, ".1f")])
    figures.table(["", "CPU µs"], rows)
    return 0


def measure(
    folder: Path, caps: dict[str, object], way: str, together: int, requests: int, rounds: int
) -> list[float]:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({"users": {"alice": caps}}))
    environ = {"LLAMAKEY_HOME": str(folder / "data"), "OPENAI_API_KEY": "sk-bench"}
    settings = Settings.load(path, environ)
    with open_store(settings.data_folder) as store:
        ledger = store.ledger
        ledger.checkpoints_elsewhere = True
        if "at once" not in way:
            ledger.waiting = lambda: None
        prices = Prices(settings.prices)
        admission = Admission(settings, ledger, prices, Estimates(ledger))
        head = Ask("lmk_bench", 0.0, "127.0.0.1", "POST", "/openai/v1/chat/completions", (), 300)
        way_in = find(head.target, head.method, settings.providers, settings.query_keys)
        user = User("alice", "abcdefghij", "laptop", settings.policy("alice"))
        call = Call(Visit(head, way_in, user, body_wanted=True), "gpt-5-mini")

        def ask() -> Hold:
            return admission.ask(call, Asked(BODY, model="gpt-5-mini"), time.time())

        # what the stage makes of a request, for the measure without it
        model = ask()

        def ask_alone() -> Hold:
            return ledger.ask(model.opening._replace(time_s=time.time()), model.claims)

        a_row = ask if "stage" in way else ask_alone
        took = []
        for number in range(rounds + 1):
            begin_s = time.thread_time()
            for _ in range(requests // together):
                holds = [a_row() for _ in range(together)]
                admission.admit(holds)
                for hold in holds:
                    ledger.settle(hold, ROW)
            if number:
                took.append((time.thread_time() - begin_s) / requests * 1e6)
            ledger.checkpoint()
        return took


if __name__ == "__main__":
    raise SystemExit(main())
