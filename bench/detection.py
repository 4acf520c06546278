"""Measures the bundled detectors on labelled texts: what they find, what they alter for nothing, what they cost.

python bench/detection.py PATH        the directory that holds score.py and dev/
python bench/detection.py PATH --missed secrets_tp --altered benign
"""

import argparse
import importlib.util
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from proxy import Detector
from proxy.detect.decode import decoded
from proxy.detect.engine import Engine

_KIB: Final = 1024
Found = list[tuple[int, int, str]]
Find = Callable[[str], Found]
# What patterns, checksums and light context cannot tell: left to language models.
_PROSE: Final = (
    "PERSON NAME FIRST_NAME LAST_NAME LOCATION ADDRESS STREET_ADDRESS CITY STATE "
    "COUNTRY ORGANIZATION ORG COMPANY DATE_TIME DATE AGE NRP NATIONALITY TITLE GPE "
    "ZIP_CODE GENDER RELIGION"
)
PROSE: Final = frozenset(_PROSE.split())


def main() -> None:
    """Print the table."""
    options = _options()
    score = _score(options.path)
    data = score.load("dev")
    engine = Engine(list(bundled()))
    print(f"{len({detector.kind for detector in engine.detectors})} kinds")
    finders = {"as it is and folded": finder(engine), "decoded too": decoding_finder(engine)}
    for name, find in finders.items():
        print(f"--- {name}")
        print(*table(score, data, find), sep="\n")
    for file in options.missed:
        _show(missed(score, data[file], finders["as it is and folded"]))
    for file in options.altered:
        _show(altered(data[file], finders["decoded too"]))


def finder(engine: Engine) -> Find:
    """What replies are searched with: the text as it is, and folded."""
    kinds = [detector.kind for detector in engine.detectors]
    return lambda text: [(start, end, kinds[index]) for start, end, index in engine.find(text)]


def decoding_finder(engine: Engine) -> Find:
    """What requests can be searched with: the text, and what it may hide behind an encoding."""
    find = finder(engine)

    def deep(text: str) -> Found:
        found = find(text)
        for reading in decoded(text):
            for start, end, kind in find(reading.text):
                if span := reading.source(start, end):
                    found.append((*span, kind))
        return found

    return deep


def bundled() -> Iterator[Detector]:
    """The detectors that come with the package, as configured by default."""
    from plugins.secrets import Secrets

    yield from Secrets().detectors()
    if importlib.util.find_spec("plugins.pii"):
        from plugins.pii import Pii

        yield from Pii().detectors()


def table(score: ModuleType, data: dict[str, Any], find: Find) -> Iterator[str]:
    """The lines: a figure, what was measured, and the target."""
    result = score.score(None, data, find, quiet=True)
    share = pattern_share(score, data["pii_tp"], find)
    yield f"secrets found            {result['secrets_tp']['recall']:6.2f} %   target ≥ 92"
    yield f"PII of pattern kinds     {share:6.2f} %   target ≥ 88"
    yield f"harmless altered         {result['benign']['altered']:6.2f} %   target ≤ 2"
    yield f"evasions caught          {result['evasion']['recall']:6.2f} %   target ≥ 80"
    yield f"hard negatives altered   {result['secrets_hard_neg']['altered']:6.2f} %"
    yield f"near misses altered      {result['secrets_near_miss']['altered']:6.2f} %"
    yield f"cost, median             {cost(data, find):6.3f} ms/KiB   target ≤ 0.1, decoding ≤ 0.3"
    yield "secrets by source        " + _shares(result["secrets_tp"]["by_source"])
    yield "harmless by source       " + _shares(result["benign"]["by_source"])
    yield "evasions by source       " + _shares(result["evasion"]["by_source"])


def pattern_share(score: ModuleType, records: list[dict[str, Any]], find: Find) -> float:
    """The share of labelled spans redacted, in percent, of the kinds that have a pattern."""
    hits = total = 0
    for record in records:
        output = score.apply_spans(record["text"], find(record["text"]))
        context = score.context_of(record["text"], record["spans"])
        for kind, start, end in record["spans"]:
            if kind.upper() not in PROSE:
                total += 1
                hits += not score.leaked(record["text"][start:end], output, context)
    return 100 * hits / total if total else 0.0


def cost(data: dict[str, Any], find: Find) -> float:
    """The median over the harmless texts of at least 1 KiB, in milliseconds per KiB, once all is warm.

    Of each text the best of four times, with all the others between: as the automata would be found in a
    process that does nothing else.
    """
    texts = [text for record in data["benign"] if len(text := record["text"]) >= _KIB]
    times = [[_timed(find, text) / (len(text.encode()) / _KIB) for text in texts] for _ in "1234"]
    best: list[float] = [min(each) for each in zip(*times, strict=True)]
    return statistics.median(best)


def _timed(find: Find, text: str) -> float:
    begun = time.thread_time()  # other processes on a busy machine do not count
    find(text)
    return (time.thread_time() - begun) * 1000


def missed(
    score: ModuleType, records: list[dict[str, Any]], find: Find
) -> Iterator[tuple[str, str]]:
    """Rule and surroundings of each labelled span that survives."""
    for record in records:
        text = record["text"]
        output, context = (
            score.apply_spans(text, find(text)),
            score.context_of(text, record["spans"]),
        )
        for _, start, end in record["spans"]:
            if not record.get("placeholder") and score.leaked(text[start:end], output, context):
                yield record["rule"], f"{text[max(0, start - 40) : start]}⟦{text[start:end][:60]}⟧"


def altered(records: list[dict[str, Any]], find: Find) -> Iterator[tuple[str, str]]:
    """Kind and surroundings of each finding in texts that hold nothing to find."""
    for record in records:
        text = record["text"]
        for start, end, kind in find(text):
            yield kind, f"{text[max(0, start - 40) : start]}⟦{text[start:end][:60]}⟧"


def _show(rows: Iterator[tuple[str, str]]) -> None:
    by_name = defaultdict(list)
    for name, text in rows:
        by_name[name].append(text)
    for name, count in Counter({name: len(texts) for name, texts in by_name.items()}).most_common():
        print(f"{count:4} {name}")
        for text in dict.fromkeys(by_name[name]):
            print(f"       {text!r}")


def _shares(by_source: dict[str, list[float]]) -> str:
    return "  ".join(f"{source} {share} ({count})" for source, (share, count) in by_source.items())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path, help="the directory with score.py and dev/")
    parser.add_argument("--missed", nargs="*", default=[], help="files whose misses are listed")
    parser.add_argument("--altered", nargs="*", default=[], help="files whose findings are listed")
    return parser.parse_args()


def _score(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("score", path / "score.py")
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} holds no score.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
