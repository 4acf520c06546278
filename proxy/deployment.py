"""What a plugin may know of the whole that it is a part of."""

from collections.abc import Iterable


class Deployment:
    """The configuration with everything that was loaded for it; known as soon as all of it is.

    Whoever keeps something for later can tell by ``digest`` whether the rules are still those of then.
    Both attributes raise ``RuntimeError`` while plugins are being made.
    """

    def __init__(self) -> None:
        self._digest: str | None = None
        self._passed_headers: tuple[str, ...] = ()

    def complete(self, digest: str, passed_headers: Iterable[str]) -> None:
        """Say what it became."""
        self._digest = digest
        self._passed_headers = tuple(passed_headers)

    @property
    def digest(self) -> str:
        """SHA-256 of the configuration and the versions of everything in it, hexadecimal."""
        if self._digest is None:
            raise RuntimeError("not before every plugin is made: ask for it in a hook")
        return self._digest

    @property
    def passed_headers(self) -> tuple[str, ...]:
        """The request headers that an upstream may get, in lower case."""
        if self._digest is None:
            raise RuntimeError("not before every plugin is made: ask for it in a hook")
        return self._passed_headers
