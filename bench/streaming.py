"""What streaming detection costs: characters held back, time per chunk, and streamed against whole.

    python bench/streaming.py [--texts 20000] [--rules plugins.secrets:Secrets plugins.pii:Pii]

Without ``--rules`` it takes a set of its own, sized as the bundled detectors are.
"""

import argparse
import importlib
import random
import resource
import statistics
import string
import time
from collections.abc import Callable, Iterator

from proxy.detect.detector import Detector
from proxy.detect.engine import Engine

WORDS = """
the a of and to in is that for it as was with be by on not he his but at are this have from which one you were
all her she there would their we him been has when who will no more if out so up said what its about than into
them can only other time new some could these two may first then do any like my now over such our man me even
made after also did many off before must well back through years much where your way
""".split()  # noqa: SIM905 - prose reads better than a list

NAMES = [
    *("password", "token", "key", "account", "server", "request"),
    *("address", "number", "invoice", "customer", "card", "phone"),
]
NAMED = 0.02  # share of words


def prose(maker: random.Random, count: int) -> list[str]:
    """Words, one in fifty of which is a name that findings like to stand beside."""
    return [maker.choice(NAMES if maker.random() < NAMED else WORDS) for _ in range(count)]


def generated(count: int) -> Iterator[Detector]:
    """Detectors of the shapes that token formats have, with made-up vendor names."""
    maker = random.Random(7)
    for index in range(count):
        name = "".join(maker.choices(string.ascii_lowercase, k=5))
        size = maker.choice([16, 24, 32, 40])
        if index % 3:
            yield Detector.regex(f"{name}-token", rf"\b{name}_[0-9A-Za-z]{{{size}}}\b")
        else:
            context = rf"(?i:{name})[\w.-]{{0,20}}['\"]?\s{{0,3}}(?:=|:|:=|=>)\s{{0,3}}['\"]?"
            yield Detector.regex(f"{name}-key", rf"[0-9a-f]{{{size}}}\b", context=context)
    yield Detector.regex(
        "email", r"\b[\w.+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}\b", fold=True
    )
    yield Detector.regex("card", r"\b[2-6](?:[ -]?\d){12,18}\b", fold=True)
    yield Detector.regex("ssn", r"\b\d{3}[- .]\d{2}[- .]\d{4}\b", fold=True)
    yield Detector.regex("phone", r"\+\d{1,3}(?:[ .-]?\(?\d{1,4}\)?){2,6}\b", fold=True)
    yield Detector.regex(
        "iban", r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b", fold=True
    )
    octet = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
    yield Detector.regex("ip", rf"\b(?:{octet}\.){{3}}{octet}\b")
    assigned = (
        r"(?i:password|passwd|pwd|secret|token|api[_ -]?key)['\"]?\s{0,3}(?::=|:|=|is)\s{0,3}['\"]?"
    )
    yield Detector.regex("assigned", r"[^\s'\"<>]{8,80}", context=assigned)
    yield Detector(
        kind="pem",
        opens=r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----",
        closes=r"-----END [A-Z ]{0,30}KEY-----",
    )


def bundled(names: list[str]) -> list[Detector]:
    """The detectors that plugins yield, named ``module:Class``."""
    plugins = [
        getattr(importlib.import_module(name.split(":")[0]), name.split(":")[1]) for name in names
    ]
    return [detector for plugin in plugins for detector in plugin().detectors()]


def text(maker: random.Random) -> str:
    """A sentence or three, now and then with something in it."""
    words = prose(maker, maker.randint(3, 60))
    for _ in range(maker.choice([0, 0, 1, 2])):
        words.insert(maker.randrange(len(words)), maker.choice(SECRETS)(maker))
    return " ".join(words)


def _run(maker: random.Random, alphabet: str, least: int, most: int) -> str:
    return "".join(maker.choices(alphabet, k=maker.randint(least, most)))


SECRETS: list[Callable[[random.Random], str]] = [
    lambda m: (
        f"{_run(m, string.ascii_lowercase, 3, 9)}@{_run(m, string.ascii_lowercase, 3, 9)}.example"
    ),
    lambda m: f"password: {_run(m, string.ascii_letters + string.digits, 8, 30)}",
    lambda m: f"{_run(m, '23456', 1, 1)}{_run(m, string.digits, 15, 15)}",
    lambda m: f"sk-{_run(m, string.ascii_letters + string.digits, 20, 48)}",
    lambda m: f"ghp_{_run(m, string.ascii_letters + string.digits, 36, 36)}",
    lambda m: (
        f"{_run(m, string.digits, 3, 3)}-{_run(m, string.digits, 2, 2)}-{_run(m, string.digits, 4, 4)}"
    ),
    lambda _: "１２３－４５－６７８９ ①２3.４.5.６ é 日本語 😀",
    lambda m: (
        f"-----BEGIN PRIVATE KEY-----\n{_run(m, string.ascii_letters, 50, 300)}\n-----END PRIVATE KEY-----"
    ),
]


def chunks(whole: str, maker: random.Random) -> list[str]:
    """``whole`` as a model streams it: a few characters at a time."""
    pieces = []
    while whole:
        size = maker.choice([1, 2, 3, 4, 4, 5, 6, 8])
        pieces.append(whole[:size])
        whole = whole[size:]
    return pieces


def differences(engine: Engine, texts: int, maker: random.Random) -> int:
    """Texts that give something else when they are streamed, each cut in three ways."""
    different = 0
    for _ in range(texts):
        whole = text(maker)
        expected = (whole, engine.find(whole))
        different += any(
            _streamed(engine, cut) != expected
            for cut in (list(whole), *(chunks(whole, maker) for _ in "12"))
        )
    return different


def _streamed(engine: Engine, pieces: list[str]) -> tuple[str, list[tuple[int, int, int]]]:
    stream = engine.stream()
    released = [piece for part in pieces for piece in stream.feed(part)] + stream.finish()
    return "".join(piece.text for piece in released), [
        span for piece in released for span in piece.spans
    ]


def pace(engine: Engine, maker: random.Random) -> tuple[list[int], list[float]]:
    """Characters held after each chunk of prose, and microseconds for each."""
    held, spent = [], []
    for _ in range(200):
        stream = engine.stream()
        for part in chunks(" ".join(prose(maker, 120)), maker):
            start = time.thread_time()  # other processes on a busy machine do not count
            stream.feed(part)
            spent.append((time.thread_time() - start) * 1e6)
            held.append(stream.held)
    return held, spent


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=292)
    parser.add_argument("--rules", nargs="*", default=[])
    options = parser.parse_args()
    maker = random.Random(options.seed)
    detectors = bundled(options.rules) if options.rules else list(generated(options.count))
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    engine = Engine(detectors)
    compiled = time.perf_counter() - start
    print(f"detectors                   {len(detectors)}")
    print(f"compiled in                 {compiled:.2f} s")
    print(f"memory, compiled            {_grown(before):.0f} MiB")
    _, cold = pace(engine, maker)
    held, spent = pace(engine, maker)
    print(
        f"held back in prose          median {statistics.median(held):.0f}, mean {statistics.mean(held):.1f} characters"
    )
    print(
        f"per chunk of prose          median {statistics.median(spent):.1f}, mean {statistics.mean(spent):.1f} µs"
    )
    print(f"while patterns are compiled mean {statistics.mean(cold):.1f} µs")
    whole = " ".join(prose(maker, 5000))[:20_480]
    engine.find(whole)
    start = time.thread_time()
    engine.find(whole)
    print(f"whole text                  {(time.thread_time() - start) * 1e3 / 20:.3f} ms/KiB")
    start = time.perf_counter()
    print(
        f"streamed unlike whole       {differences(engine, options.texts, maker)} of {options.texts} texts, 3 cuts each"
    )
    print(f"                            in {time.perf_counter() - start:.0f} s")
    print(f"memory after all            {_grown(before):.0f} MiB")


def _grown(before: int) -> float:
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


if __name__ == "__main__":
    main()
