"""Finds people, places and more by Microsoft Presidio, whose model is loaded once for all workers of a machine."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from importlib.util import find_spec

from plugins.presidio.client import Side, Spans
from proxy import ConfigError, Detector, hookimpl

_ENTITY = re.compile(r"[A-Z][A-Z0-9_]{1,63}\Z")
_NAME = re.compile(r"[A-Za-z0-9_./-]*\Z")
_LANGUAGE = re.compile(r"[a-z]{2,3}\Z")
#: Pieces of texts whose findings are remembered, because each detector is asked about each piece.
_REMEMBERED = 256
_SHORTEST_WINDOW = 100


@dataclass(frozen=True)
class Presidio:
    """``entities`` are found as the kinds ``presidio-person`` and so on, group ``presidio``.

    ``model`` is an installed spaCy model, or a folder with one; without it only what Presidio finds by patterns is
    found. It is held by a process of its own, started by the first worker, which the workers ask over a Unix socket
    in ``directory``. While that process is away, or loads its model, calls are refused. Texts are asked about in
    pieces of ``window`` characters with as many around them.
    """

    entities: tuple[str, ...]
    language: str = "en"
    model: str = ""
    score: float = 0.5
    window: int = 1000
    timeout: float = 4.0
    directory: str | None = None
    _side: Side = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Raises ``ConfigError`` for options that will not do, or without the library."""
        for entity in self.entities:
            if not _ENTITY.match(entity):
                raise ConfigError(f"entities: {entity!r} is no entity: write e.g. PERSON")
        if not self.entities or not 0 <= self.score <= 1 or not self.timeout > 0:
            raise ConfigError('write e.g. entities = ["PERSON"], score = 0.5, timeout = 4.0')
        if self.window < _SHORTEST_WINDOW:
            raise ConfigError(f"window = {self.window}: write at least {_SHORTEST_WINDOW}")
        if not _LANGUAGE.match(self.language) or not _NAME.match(self.model):
            raise ConfigError('write e.g. language = "en", model = "en_core_web_lg"')
        if find_spec("presidio_analyzer") is None:
            raise ConfigError("presidio needs a library: pip install 'outgate[presidio]'")
        names = {"language": self.language, "model": self.model, "entities": list(self.entities)}
        side = Side({**names, "score": self.score}, self.directory, self.timeout)
        object.__setattr__(self, "_side", side)

    @hookimpl
    def detectors(self) -> Iterator[Detector]:
        """One for each entity; the model begins to be loaded."""
        self._side.wake()
        found = lru_cache(_REMEMBERED)(self._side.found)
        for entity in self.entities:
            yield Detector(
                kind=f"presidio-{entity.lower().replace('_', '-')}",
                find=partial(_of, found, entity),
                window=self.window,
                groups=("presidio",),
                confidence=self.score,
            )


def _of(
    found: Callable[[str], Mapping[str, Spans]], entity: str, text: str
) -> Iterable[tuple[int, int]]:
    return found(text).get(entity, ())
