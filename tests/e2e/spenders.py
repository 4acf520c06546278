"""Processes that spend from the same purses as fast as they can, and are killed at random and replaced.

python -m tests.e2e.spenders URL FOLDER PROCESSES SECONDS CAP SEED

Each process notes in a file of its own what it was granted, is about to pay, and has paid: what it settled is
paid when the ledger says that it is written, which it is asked every now and then.
"""

import json
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

import psycopg
import sqlalchemy.dialects.postgresql.psycopg
import sqlalchemy.dialects.sqlite

from proxy import Charge, Counts, Labels
from proxy.store import Store, StoreTable, keys, ledger

#: Loaded before the first fork: a process that is killed while it imports proves nothing.
LOADED = (psycopg, sqlalchemy.dialects, keys, ledger)

BUDGETS = ("all", "owner", "team")
_ASKED = 0.1
#: Calls that reserve once more, for another model.
_CHANGED = 0.4


def charges(amount: int, cap: int) -> list[Charge]:
    """One charge for each budget; the caps differ, so that they run dry one after the other."""
    return [Charge(name, "s", "2026", "tokens", amount, cap + n) for n, name in enumerate(BUDGETS)]


def spend(url: str, notes: int, cap: int, chance: random.Random) -> None:
    """Reserve, now and then something else instead, and settle until killed."""
    store = Store(StoreTable(url=url, lease=2))
    who = Labels(key="spender", endpoint="chat")
    settled: list[int] = []
    while True:
        call, amount = os.urandom(12).hex(), chance.randint(1, 60)
        if store.ledger.reserve(call, charges(amount, cap), who) is not None:
            os.write(notes, b"short 0\n")
            time.sleep(0.02)
            continue
        os.write(notes, b"granted %d\n" % amount)
        if chance.random() < _CHANGED:
            other = chance.randint(1, 60)
            if store.ledger.reserve(call, charges(other, cap), who, again=True) is None:
                amount = other
        time.sleep(chance.random() * 0.01)  # the upstream works
        spent = chance.randint(0, amount)
        os.write(notes, b"paying %d\n" % spent)
        counts = Counts(calls=1, completion_tokens=spent)
        store.ledger.settle(call, charges(amount, cap), {"tokens": spent}, who, counts)
        settled.append(spent)
        if chance.random() < _ASKED:
            store.ledger.flush()
            os.write(notes, b"".join(b"paid %d\n" % paid for paid in settled))
            settled.clear()


def begin(url: str, folder: Path, cap: int, seed: int) -> int:
    """Fork a process that spends; its number."""
    child = os.fork()
    if child:
        return child
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        notes = os.open(folder / f"{seed}.notes", flags, 0o600)
        spend(url, notes, cap, random.Random(seed))
    finally:
        traceback.print_exc()
        os._exit(1)  # nobody but a signal ends a spender


def main() -> None:
    """Keep the processes running and kill one every now and then; then all, and tell what happened."""
    url, folder = sys.argv[1], Path(sys.argv[2])
    processes, cap, seed = int(sys.argv[3]), int(sys.argv[5]), int(sys.argv[6])
    ends = time.monotonic() + float(sys.argv[4])
    chance = random.Random(seed)
    running: list[int] = []
    kills = died = 0
    while time.monotonic() < ends:
        while len(running) < processes:
            seed += 1
            running.append(begin(url, folder, cap, seed))
        time.sleep(0.2 + chance.random() * 0.4)
        victim = running.pop(chance.randrange(len(running)))
        os.kill(victim, signal.SIGKILL)
        kills += 1
        died += os.waitstatus_to_exitcode(os.waitpid(victim, 0)[1]) != -signal.SIGKILL
    for victim in running:
        os.kill(victim, signal.SIGKILL)
        died += os.waitstatus_to_exitcode(os.waitpid(victim, 0)[1]) != -signal.SIGKILL
    counts, sums = Counter[str](), Counter[str]()
    for path in folder.glob("*.notes"):
        for line in path.read_text().splitlines():
            word, amount = line.split()
            counts[word] += 1
            sums[word] += int(amount)
    told = {"kills": kills + len(running), "died": died, "counts": counts, "sums": sums}
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main()
