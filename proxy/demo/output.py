"""What a running gateway prints, line by line, with the record of each call to be asked for."""

import json
import queue
import threading
from collections.abc import Iterator
from typing import IO, Any, Final

_PATIENCE: Final = 10.0


class Lines:
    """Reads a process's output in a thread, so that it never blocks the process."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._queue: queue.Queue[str | None] = queue.Queue()
        self._thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._thread.start()

    def record(self, identity: str) -> dict[str, Any]:
        """The log record of a call; an empty one when none comes."""
        while (line := self._next(_PATIENCE)) is not None:
            if f'"{identity}"' in line:
                found: dict[str, Any] = json.loads(line)
                return found
        return {}

    def rest(self) -> Iterator[str]:
        """Every further line, until the process ends."""
        while (line := self._next(None)) is not None:
            yield line

    def _next(self, seconds: float | None) -> str | None:
        try:
            return self._queue.get(timeout=seconds)
        except queue.Empty:
            return None

    def _read(self, stream: IO[bytes]) -> None:
        try:
            for line in stream:
                self._queue.put(line.decode(errors="replace").rstrip("\n"))
        except ValueError:  # the stream was closed with the process
            pass
        self._queue.put(None)
