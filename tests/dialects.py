"""An answer of a provider, for what translates it."""

from collections.abc import Iterator


class Heard:
    """An answer of the provider that is here already, cut where a test wants it."""

    def __init__(
        self, pieces: list[bytes], media: str = "application/json", status: int = 200
    ) -> None:
        self._pieces = pieces
        self.status = status
        self.headers = (("content-type", media), ("request-id", "req_up"))
        self.address, self.reused, self.attempts, self.waited = "127.0.0.1:1", False, 1, 0.0

    def header(self, name: str) -> str | None:
        return dict(self.headers).get(name)

    def read(self, _limit: int) -> bytes:
        return b"".join(self._pieces)

    def pieces(self) -> Iterator[bytes]:
        yield from self._pieces

    def close(self) -> None:
        pass
