"""What one try at the wire has seen so far: shared by the layers that HTTP libraries put between us and the socket."""

import threading
import time
from typing import Literal, TypeAlias

from proxy.egress.handle import Handle
from proxy.model import Timeouts

Stage: TypeAlias = Literal["connect", "answer", "body"]


class Attempt:
    """One try: where it stands, on what connection, and whether the upstream said anything yet.

    ``fresh`` asks for a new connection; ``reused`` tells that the connection had served before;
    ``awaits`` is the step of connecting that is under way, in words.
    ``received`` is true from the first byte of the answer, ``answered`` once its head is complete.
    """

    __slots__ = (
        "address",
        "answered",
        "awaits",
        "fresh",
        "handle",
        "head_by",
        "received",
        "reused",
        "stage",
        "timeouts",
    )

    def __init__(self, handle: Handle, timeouts: Timeouts, *, fresh: bool = False) -> None:
        self.handle = handle
        self.timeouts = timeouts
        self.fresh = fresh
        self.reused = True
        self.received = False
        self.answered = False
        self.stage: Stage = "connect"
        self.address = ""
        self.awaits = "the connection to the upstream"
        self.head_by = 0.0

    def expect_answer(self) -> None:
        """The request goes out now: the time to the first byte starts."""
        self.stage = "answer"
        self.head_by = time.monotonic() + self.timeouts.first_byte

    def check_head_time(self) -> None:
        """Raise ``TimeoutError`` when a head that trickles in has had its time."""
        if time.monotonic() > self.head_by:
            raise TimeoutError("the head of the answer took too long")


class Here(threading.local):
    """The attempt this thread is making; urllib3 has no parameter that reaches a connection being opened."""

    attempt: Attempt


here = Here()
