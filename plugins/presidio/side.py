"""The process that holds the model: one for each machine and setting, which ends when nobody needs it any more."""

import contextlib
import importlib
import json
import os
import socketserver
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from plugins.presidio.client import lock_file, receive, send

Found: TypeAlias = dict[str, list[tuple[int, int]]]
#: The parts of a spaCy model that find anything.
_FINDERS = {"ner", "entity_ruler"}
#: Seconds without any worker.
_LINGER = 20.0


class Model:
    """Presidio's analyser for one language; never fetches anything. Raises ``SystemExit`` where it cannot be."""

    def __init__(self, language: str, model: str, entities: list[str], score: float) -> None:
        _stay_at_home()
        presidio: Any = importlib.import_module("presidio_analyzer")
        registry = presidio.RecognizerRegistry(supported_languages=[language])
        engine = _engine(language, model)
        registry.load_predefined_recognizers(languages=[language], nlp_engine=engine)
        if not _FINDERS & set(engine.nlp[language].pipe_names):
            # It would promise people and places, and find none.
            registry.remove_recognizer("SpacyRecognizer")
        self._analyser = presidio.AnalyzerEngine(
            registry=registry, nlp_engine=engine, supported_languages=[language]
        )
        known = sorted(self._analyser.get_supported_entities(language))
        if missing := [entity for entity in entities if entity not in known]:
            sys.exit(f"presidio: nothing finds {', '.join(missing)}; there are: {', '.join(known)}")
        self._terms = {"language": language, "entities": entities, "score_threshold": score}
        # Its parts are not said to be safe for several threads.
        self._lock = threading.Lock()

    def found(self, text: str) -> Found:
        """What is in a text, by entity."""
        found: Found = {}
        with self._lock:
            for one in self._analyser.analyze(text, **self._terms):
                found.setdefault(one.entity_type, []).append((one.start, one.end))
        return found


def _engine(language: str, model: str) -> Any:
    spacy: Any = importlib.import_module("spacy")
    engines: Any = importlib.import_module("presidio_analyzer.nlp_engine")
    # Presidio itself would download what is missing.
    if model and not (spacy.util.is_package(model) or Path(model).is_dir()):
        sys.exit(f"presidio: the spaCy model {model!r} is not installed; nothing is downloaded")
    engine = engines.SpacyNlpEngine([{"lang_code": language, "model_name": model or "blank"}])
    engine.nlp = {language: spacy.load(model) if model else spacy.blank(language)}
    return engine


def _stay_at_home() -> None:
    """Presidio asks this library about addresses, which would fetch a list from the internet."""
    domains: Any = importlib.import_module("tldextract.tldextract")
    domains.TLD_EXTRACTOR = domains.TLDExtract(suffix_list_urls=(), cache_dir=None)


class Server(socketserver.ThreadingUnixStreamServer):
    """Answers each connection in a thread of its own."""

    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, path: str, found: Callable[[str], Found]) -> None:
        self.found = found
        self.connections = 0
        super().__init__(path, _Handler)


class _Handler(socketserver.BaseRequestHandler):
    server: Server

    def handle(self) -> None:
        """Answer until the worker hangs up."""
        self.server.connections += 1
        try:
            with contextlib.suppress(OSError):
                while True:
                    send(self.request, self.server.found(receive(self.request)))
        finally:
            self.server.connections -= 1


def main(path: str, settings: str) -> None:
    """Serve at ``path`` until no worker is there; ends at once where another process does so already."""
    os.umask(0o077)
    # A worker that looks whether somebody is here holds it for a moment.
    with lock_file(Path(path), patience=1.0) as alone:
        if not alone:
            return
        model = Model(**json.loads(settings))
        Path(path).unlink(missing_ok=True)
        with Server(path, model.found) as server:
            threading.Thread(target=_watch, args=(server,), daemon=True).start()
            server.serve_forever()


def _watch(server: Server) -> None:
    pause = threading.Event()
    seen = True
    while seen or server.connections:
        seen = server.connections > 0
        pause.wait(_LINGER)
    server.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
