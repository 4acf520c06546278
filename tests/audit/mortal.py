"""A program whose children write a trail and are killed in the middle: ``python -m tests.audit.mortal plan.json``.

It tells which intents were acknowledged. What a child tells is told before anything it does next, so what it had
acknowledged when it was killed is known to the last one.
"""

import json
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from proxy.audit import AuditTable, Trail


def serve(table: AuditTable, number: int, pipe: int) -> None:
    """What a worker does: calls in several threads, until the end."""
    trail = Trail(table, "policy")
    trail.start()

    def work(caller: int) -> None:
        count = 0
        while True:
            call = f"{number}.{caller}.{count}"
            trail.intent({"id": call, "text": "x" * 100})
            os.write(pipe, f"{call}\n".encode())
            time.sleep(random.random() / 200)
            if caller:  # one caller never ends its calls
                trail.outcome({"id": call, "outcome": "ok"})
            count += 1

    for caller in range(3):
        threading.Thread(target=work, args=(caller,), daemon=True).start()
    time.sleep(60)


def child(table: AuditTable, number: int, pipe: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        serve(table, number, pipe)
    finally:
        os._exit(1)


def main(plan: dict[str, Any]) -> None:
    table = AuditTable(**plan["table"])
    dice = random.Random(plan["seed"])
    reading, writing = os.pipe()
    told: list[bytes] = []
    listener = threading.Thread(target=listen, args=(reading, told))
    alive = [child(table, number, writing) for number in range(plan["workers"])]
    listener.start()
    for number in range(plan["workers"], plan["workers"] + plan["kills"]):
        time.sleep(0.02 + dice.random() * 0.06)
        victim = alive.pop(dice.randrange(len(alive)))
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
        if number < plan["kills"]:
            alive.append(child(table, number, writing))
    for victim in alive:
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
    os.close(writing)
    listener.join()
    sys.stdout.write(json.dumps(b"".join(told).decode().split()))


def listen(pipe: int, told: list[bytes]) -> None:
    while text := os.read(pipe, 65536):
        told.append(text)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
