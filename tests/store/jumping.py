"""A program that is run under ``clock.c``: its wall clock jumps while it spends, and it tells what it found.

python -m tests.store.jumping SCENARIO URL FOLDER SEED
"""

import ctypes
import json
import random
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from plugins.budget.rules import BudgetEntry, compiled
from plugins.rate_limit.shared import SCHEME, SharedStorage
from plugins.rate_limit.window import Correction, Demand
from proxy import Charge, Counts, Labels
from proxy.store import Store, StoreTable
from proxy.store.grant import Grant
from proxy.store.pruning import Pruning
from tests.store.servers import opened

HOUR: Final = 3600
DAY: Final = 24 * HOUR
CAP: Final = 3000
SECONDS: Final = 4.0
_library: Final = ctypes.CDLL(None)


def jump(seconds: int) -> None:
    """Set the wall clock to so many seconds from the true time."""
    _library.clock_jump(ctypes.c_long(seconds))


def charges(amount: int) -> list[Charge]:
    return [Charge(name, "s", "2026", "tokens", amount, CAP) for name in ("a", "b")]


def spending(url: str, _folder: Path, seed: int) -> dict[str, Any]:
    """Four threads spend while the clock jumps by hours, a hundred times."""
    store = Store(StoreTable(url=url, lease=1))
    ends = time.monotonic() + SECONDS
    granted: list[int] = []

    def spend(number: int) -> None:
        chance = random.Random(f"{seed}-{number}")
        while time.monotonic() < ends:
            call, amount = f"{seed}-{number}-{chance.random()}", chance.randint(1, 60)
            if store.ledger.reserve(call, charges(amount), Labels(key="k")) is not None:
                time.sleep(0.02)
                continue
            time.sleep(chance.random() * 0.02)
            spent = chance.randint(0, amount // 8)
            counts = Counts(calls=1, completion_tokens=spent)
            store.ledger.settle(call, charges(amount), {"tokens": spent}, Labels(key="k"), counts)
            granted.append(spent)

    threads = [threading.Thread(target=spend, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    chance = random.Random(seed)
    jumps = 0
    while time.monotonic() < ends:
        jump(chance.randint(-9 * HOUR, 9 * HOUR))
        jumps += 1
        time.sleep(SECONDS / 100)
    for thread in threads:
        thread.join()
    store.close()
    return {"calls": len(granted), "spent": sum(granted), "jumps": jumps}


def keys(url: str, _folder: Path, _seed: int) -> dict[str, Any]:
    """What is known of a key at each time by the clock, of its secret before a rotation, and of a revoked one."""
    store = opened(url)
    grant = Grant(name="one", expires=int(time.time()) + 2 * HOUR)
    _, first = store.keys.create(grant)
    _, other = store.keys.create(Grant(name="other"))
    _, second = store.keys.rotate("one", overlap=HOUR)
    found: list[list[bool]] = []
    for hours in (0, 1.5, 3, -9, 0):
        jump(int(hours * HOUR))
        shown = (first, second, other)
        found.append([store.keys.find(secret.reveal()) is not None for secret in shown])
    jump(-9 * HOUR)
    opened(url).keys.revoke("other")
    revoked = time.monotonic()
    while store.keys.find(other.reveal()) is not None:
        time.sleep(0.01)
    return {"found": found, "seconds": time.monotonic() - revoked}


def limits(_url: str, folder: Path, _seed: int) -> dict[str, Any]:
    """An hour's limit and a place, taken before the clock jumps; also as a process sees them that begins then."""
    address = f"{SCHEME}://{folder / 'limits.db'}"
    window, seat = Demand(b"w", 3, 1, float(HOUR)), Demand(b"s", 1)
    storage = SharedStorage(address)
    taken = [storage.take([window], f"call-{number}", DAY)[0] for number in range(3)]
    storage.take([seat], "seated", DAY)
    waits, places = [], []
    for hours in (0, 9, -9, 300, 0):
        jump(hours * HOUR)
        for seen in (storage, SharedStorage(address)):
            waits.append(seen.take([window], "more", DAY)[0].wait)
            places.append(seen.take([seat], "more", DAY)[0].wait > 0)
    jump(9 * HOUR)
    storage.settle([Correction(window, taken[0].cell, -1), Correction(seat, 0, 0)], "seated")
    storage.flush()
    after = [storage.take([one], "after", DAY)[0].wait for one in (window, seat)]
    return {"waits": waits, "places": places, "after": after}


def periods(url: str, _folder: Path, _seed: int) -> dict[str, Any]:
    """A budget by the day, while the clock is two days ahead and back again."""
    store = Store(StoreTable(url=url))
    (rule,) = compiled([BudgetEntry("day", tokens=1000, every="day")])

    def today() -> str:
        return rule.period_name(datetime.now(UTC))

    def reserve(call: str, amount: int, period: str) -> bool:
        charge = Charge("day", "k", period, "tokens", amount, rule.cap)
        return store.ledger.reserve(call, [charge], Labels()) is None

    here = today()
    found = [reserve("c1", 600, here), reserve("c2", 600, here)]
    jump(2 * DAY)
    found += [today() == here, reserve("c3", 600, today())]
    # The call from before the jump pays where it reserved.
    charge = Charge("day", "k", here, "tokens", 600, rule.cap)
    store.ledger.settle("c1", [charge], {"tokens": 500}, Labels(), Counts(calls=1))
    jump(0)
    found += [today() == here, reserve("c4", 600, here), reserve("c5", 400, here)]
    balance = store.ledger.balance("day", "k", here, "tokens")
    store.close()
    return {"found": found, "balance": [balance.settled, balance.reserved]}


def pruning(url: str, _folder: Path, _seed: int) -> dict[str, Any]:
    """Whether a clock that is years ahead makes anything old."""
    store = Store(StoreTable(url=url))
    pruning = Pruning(store.database, 7 * DAY)
    month = f"{datetime.now(UTC):%Y-%m}"
    charge = Charge("b", "k", month, "tokens", 10, 100)
    store.ledger.reserve("c1", [charge], Labels(key="k"))
    store.ledger.settle("c1", [charge], {"tokens": 9}, Labels(key="k"), Counts(calls=1))
    store.ledger.flush()
    jump(3000 * DAY)
    removed = pruning.step()
    store.close()
    return {"removed": removed}


SCENARIOS: Final[dict[str, Callable[[str, Path, int], dict[str, Any]]]] = {
    each.__name__: each for each in (spending, keys, limits, periods, pruning)
}

if __name__ == "__main__":
    name, url, folder, seed = sys.argv[1:]
    jump(0)
    sys.stdout.write(json.dumps(SCENARIOS[name](url, Path(folder), int(seed))))
