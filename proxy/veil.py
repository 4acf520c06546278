"""Keeps the company's keys out of replies: some upstreams repeat the key they were shown."""

from typing import Final

from proxy.secret import Secret

#: Shorter keys may be words of an innocent text.
_SHORTEST: Final = 12
_SHOWN: Final = "[credential]"


class Veil:
    """Replaces the given keys in what an upstream says."""

    def __init__(self, *keys: Secret | None) -> None:
        texts = {key.reveal() for key in keys if key}
        self._texts = tuple(text for text in texts if len(text) >= _SHORTEST)
        self._pairs = tuple((text.encode(), _SHOWN.encode()) for text in self._texts)

    def text(self, value: str) -> str:
        """A header's value without the keys."""
        for key in self._texts:
            value = value.replace(key, _SHOWN)
        return value

    def data(self, value: bytes) -> bytes:
        """A body, or whole events of one, without the keys; the same bytes where none stands in it."""
        for key, shown in self._pairs:
            value = value.replace(key, shown)
        return value
