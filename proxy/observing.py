"""What plugins are shown of an upstream's answer when the caller has all of it: the complete reply, as it was said."""

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from proxy import chain, jsonio, stream
from proxy.errors import UpstreamError
from proxy.frozen import freeze
from proxy.model import Call, MiB, Reply
from proxy.reading import strict
from proxy.sse import DONE, Event
from proxy.steps import Running, Step

log: Final = logging.getLogger("outgate.observing")
#: Bytes of an answer beyond which nobody is shown it.
MOST: Final = 4 * MiB
_OK: Final = 200
_EMPTY: Final = (None, b"", b"null", DONE)


class Observation:
    """The answer to one call for the plugins that want to see it; made only where there is one.

    What was said is kept as it came, and read when the caller waits for nothing any more.
    """

    def __init__(self, steps: Iterable[Step], call: Call, depth: int) -> None:
        self._steps = tuple(steps)
        self._call = call
        self._depth = depth
        self._size = 0
        self._events: list[bytes] = []
        self._read: Callable[[], Any] | None = None
        #: The plugins that failed, and with what.
        self.faults: list[tuple[str, str]] = []

    def whole(self, status: int, data: bytes) -> None:
        """The answer is ``data``, and there is no more."""
        self._forget()
        if status == _OK and len(data) <= MOST:
            self._read = lambda: strict(data, self._depth)

    def stream(
        self, status: int, pieces: Iterator[list[Event]], veiled: Callable[[bytes], bytes]
    ) -> Iterator[list[Event]]:
        """The events as they come; ``veiled`` takes the company's key out of what they say together."""
        self._forget()
        if status == _OK:
            self._read = lambda: strict(veiled(self._assembled()), self._depth)
        for events in pieces:
            for event in events:
                if self._read is not None and event.data not in _EMPTY:
                    self._keep(event.data or b"")
            yield events

    def _keep(self, data: bytes) -> None:
        self._size += len(data)
        self._events.append(data)
        if self._size > MOST:
            self._forget()

    def _forget(self) -> None:
        """Also what an upstream said that was asked before, in vain."""
        self._size = 0
        self._events.clear()
        self._read = None

    def _assembled(self) -> bytes:
        payloads = (strict(data, self._depth) for data in self._events)
        return jsonio.encode(stream.assemble(self._call.endpoint, payloads))

    def tell(self, running: Running) -> None:
        """Show the plugins what there is, if it is complete and can be read."""
        if self._read is None:
            return
        try:
            body = freeze(self._read())
        except UpstreamError as error:
            log.debug("%s: nobody is shown the answer: %s", self._call.id, error)
            return
        reply = Reply(status=_OK, body=body)
        self.faults = chain.observe_response(self._steps, self._call, reply, running)
