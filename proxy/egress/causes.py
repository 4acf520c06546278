"""A failure on the way out whose cause is known, and what an operator can do about it."""

from proxy.errors import UpstreamError


class Diagnosed(UpstreamError):
    """``detail`` goes into the record and the log, ``remedy`` to who checks the way out; neither holds a secret."""

    def __init__(
        self, kind: str, detail: str, remedy: str, *, bytes_received: bool = False
    ) -> None:
        super().__init__(kind, detail, bytes_received=bytes_received)
        self.remedy = remedy
