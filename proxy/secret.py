"""A value that must not be seen: it never prints, never serialises, never compares in variable time."""

import hmac
from typing import Final, NoReturn

MASK: Final = "Secret(***)"


class Secret:
    """A credential of the company or of a caller.

    ``reveal()`` is the one way to the text; every other way of looking shows ``Secret(***)``.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The secret itself, for the one place that sends or digests it."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._text.encode(), other._text.encode())

    # Hashing would put a digest of the secret into every dict that holds it.
    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not serialised: call reveal() where it is sent")
