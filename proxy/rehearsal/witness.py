"""What is kept of a live call for a shadow that judges it later: references, no copies."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.model import Call


class Witness:
    """One call as its intake accepted it, as it may leave, and a whole reply before and after its review.

    What the call did not come to stays None: a stream is no whole reply, and one that was withheld is not shown.
    """

    __slots__ = ("accepted", "asked", "found", "metered", "reply", "shown", "status")

    def __init__(self) -> None:
        self.asked: Call | None = None
        self.accepted: Call | None = None
        self.found = 0  # findings in the request; those of the reply come after them
        self.metered = False
        self.status = 0
        self.reply: bytes | None = None
        self.shown: bytes | None = None

    def leaves(self, call: "Call", found: int, *, metered: bool) -> None:
        """Take note of the call as it passed every judgement; ``metered`` if its usage is asked for on our behalf."""
        self.accepted, self.found, self.metered = call, found, metered

    def answered(self, status: int, reply: bytes) -> None:
        """Take note of a whole reply."""
        self.status, self.reply = status, reply
