"""Runs the code that plugins bring to their detectors, so that its faults are known for whose they are."""

import logging
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from msgspec import structs

from proxy.detect.detector import Detector
from proxy.errors import Unavailable
from proxy.steps import PluginFault

log: Final = logging.getLogger("outgate.fence")


class DetectorFault(Exception):
    """A detector's own code raised, took too long, or gave what is no span; ``index`` is its place.

    ``away`` is what it needs and does not reach, where it said so.
    """

    def __init__(self, index: int, fault: str, away: Unavailable | None = None) -> None:
        super().__init__(fault)
        self.index = index
        self.fault = fault
        self.away = away


class Terms(NamedTuple):
    """What the operator said of a detector's plugin: ``deadline`` in seconds, whether its faults are borne."""

    plugin: str
    deadline: float
    tolerant: bool


class Fence(threading.local):
    """The detectors' own code at work in one thread.

    A fault raises ``DetectorFault``, or is kept in ``faults`` where the operator bears it: then nothing was
    found there, but what was found too late counts.
    """

    def __init__(self, terms: Sequence[Terms]) -> None:
        self._terms = terms
        self.start()

    def start(self) -> None:
        """Forget what was: a new text, or the next piece of one."""
        self.faults: dict[int, str] = {}
        self._spent: dict[int, float] = {}

    def around(self, detector: Detector, index: int) -> Detector:
        """The detector with its own code inside this fence."""
        changes: dict[str, Any] = {}
        if detector.check is not None:
            changes["check"] = partial(self._ask, index, detector.check, _verdict, False)
        if detector.find is not None:
            changes["find"] = partial(self._ask, index, detector.find, _spans, ())
        return structs.replace(detector, **changes) if changes else detector

    def _ask(
        self,
        index: int,
        function: Callable[[str], Any],
        read: Callable[[Any, str], Any],
        nothing: Any,
        text: str,
    ) -> Any:
        began = time.perf_counter()
        try:
            result = read(function(text), text)
        except Unavailable as error:
            self._fault(index, f"is unavailable: {error.message}", error)
            return nothing
        except PluginFault as error:
            _log(self._terms[index].plugin, error)
            self._fault(index, f"raised {type(error).__name__}")
            return nothing
        spent = self._spent[index] = self._spent.get(index, 0.0) + time.perf_counter() - began
        if spent > self._terms[index].deadline:
            self._fault(index, "exceeded its deadline")
        return result

    def _fault(self, index: int, fault: str, away: Unavailable | None = None) -> None:
        if not self._terms[index].tolerant:
            raise DetectorFault(index, fault, away) from None
        self.faults.setdefault(index, fault)


def _log(plugin: str, error: BaseException) -> None:
    """The traceback without the message, which may quote the text."""
    lines = "".join(traceback.format_tb(error.__traceback__)).rstrip()
    log.error("plugin %s failed in a detector:\n%s", plugin, lines)


def _verdict(given: Any, _: str) -> bool:
    return bool(given)


def _spans(found: Iterable[tuple[int, int]], text: str) -> list[tuple[int, int]]:
    spans = [(start, end) for start, end in found]
    for start, end in spans:
        if not (type(start) is type(end) is int and 0 <= start <= end <= len(text)):
            raise ValueError("a span that is no (start, end) within the text")
    return spans
