"""What a request's row and counters cost: microseconds of admit + settle, with caps and without.

    .venv/bin/python scripts/bench/ledger.py [--folder FOLDER] [--requests N]

Three ways: the store alone; with the stage before it (which caps apply, the estimate); and a row
that is settled at once, as when one client alone is served, instead of with the next admission.
"""

from __future__ import annotations

import argparse
import statistics
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
from llamakey_addon.store.ledger import Closing  # noqa: E402

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


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument(
        "--folder", type=Path, help="where the store is made; default: a new one"
    )
    arguments.add_argument("--requests", type=int, default=20_000)
    chosen = arguments.parse_args()
    print(f"{'':34} {'median':>8} {'p99':>8} {'mean':>8}   µs of admit + settle")
    for name, caps in (("3 limits and 2 budgets", CAPS), ("no cap", {})):
        for way in ("store alone", "with its stage", "settled at once"):
            with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
                times = measure(Path(folder), caps, way, chosen.requests)
            times.sort()
            print(
                f"{name + ', ' + way:34} {statistics.median(times):8.1f} "
                f"{times[len(times) * 99 // 100]:8.1f} {statistics.mean(times):8.1f}"
            )
    return 0


def measure(folder: Path, caps: dict[str, object], way: str, requests: int) -> list[float]:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({"users": {"alice": caps}}))
    environ = {"LLAMAKEY_HOME": str(folder / "data"), "OPENAI_API_KEY": "sk-bench"}
    settings = Settings.load(path, environ)
    with open_store(settings.data_folder) as store:
        ledger = store.ledger
        if way != "settled at once":
            ledger.waiting = lambda: None
        prices = Prices(settings.prices)
        estimates = Estimates(ledger)
        admission = Admission(settings, ledger, prices, estimates)
        ask = Ask("lmk_bench", 0.0, "127.0.0.1", "POST", "/openai/v1/chat/completions", (), 300)
        way_in = find(ask.target, ask.method, settings.providers, settings.query_keys)
        user = User("alice", "abcdefghij", "laptop", settings.policy("alice"))
        call = Call(Visit(ask, way_in, user, body_wanted=True), "gpt-5-mini")
        # what the stage makes of a request, for the measure without it
        model = admission.ask(call, Asked(BODY, model="gpt-5-mini"), time.time())
        admission.admit([model])
        ledger.settle(model, ROW)
        times = []
        for number in range(requests + 200):
            asked = Asked(BODY, model="gpt-5-mini")
            start_s = time.perf_counter()
            if way == "store alone":
                opening = model.opening._replace(time_s=time.time())
                hold = ledger.admit(opening, model.claims)
            else:
                hold = admission.ask(call, asked, time.time())
                admission.admit([hold])
            ledger.settle(hold, ROW)
            if number >= 200:
                times.append((time.perf_counter() - start_s) * 1e6)
        return times


if __name__ == "__main__":
    raise SystemExit(main())
