"""Which failures of a try leave it open to another: a table that those who send and those who choose share."""

from typing import Final

#: After these the request cannot have arrived.
UNSENT: Final = frozenset({"resolve", "refused_address", "connect", "tls", "timeout_connect"})
#: After these it may have arrived, and there is no usable answer.
UNANSWERED: Final = frozenset({"timeout_first_byte", "timeout_idle", "cut"})
#: There was an answer; whether another try may be better is a question of its status.
STATUS: Final = "status"
#: The upstream was left alone, because it failed before.
CIRCUIT_OPEN: Final = "circuit_open"
#: Statuses that say nothing against the call itself; 529 is Anthropic's "overloaded".
PASSING: Final = frozenset({408, 429, 500, 502, 503, 504, 529})
