"""Cuts text into the demo model's tokens and joins tokens back into exactly the same text."""

import re
from collections.abc import Iterable, Sequence

#: The text of token 0, which begins and ends every document.
END_OF_TEXT = "<|endoftext|>"
#: The number of the token that begins and ends every document.
END = 0

_WORDS = re.compile(r" ?[A-Za-z]+|[^A-Za-z]")
_CODE_POINTS = 0x110000


def _spellings(piece: str) -> Iterable[str]:
    """The forms in which one piece may stand in a text: small or capital, glued or spaced."""
    bare = piece.strip()
    for form in (bare, bare.capitalize()):
        yield form
        yield f" {form}"


def words(text: str) -> list[str]:
    """`text` as words (each with the blank before it) and single other characters."""
    return _WORDS.findall(text)


class Tokenizer:
    """A greedy, reversible tokenizer: the longest known piece wins, then the single character.

    A character that begins no piece is a token of its own, numbered by its code point after the
    pieces. So every token is whole text, any text can be encoded, and
    `decode(encode(text)) == text` holds for every string.
    """

    def __init__(self, pieces: Iterable[str]) -> None:
        known = {form for piece in pieces for form in _spellings(piece) if form.strip()}
        known.update(map(chr, range(32, 127)))
        self._pieces = (END_OF_TEXT, *sorted(known), "\n")
        self._numbers = {piece: number for number, piece in enumerate(self._pieces)}
        self._lengths = sorted({len(piece) for piece in self._pieces}, reverse=True)

    @property
    def size(self) -> int:
        """How many tokens there are; token numbers run from 0 to `size - 1`."""
        return len(self._pieces) + _CODE_POINTS

    def encode(self, text: str) -> tuple[int, ...]:
        """The token numbers of `text`."""
        numbers: list[int] = []
        position = 0
        while position < len(text):
            number = self._longest(text, position)
            numbers.append(number)
            position += len(self.text(number))
        return tuple(numbers)

    def _longest(self, text: str, position: int) -> int:
        for length in self._lengths:
            number = self._numbers.get(text[position : position + length])
            if number is not None:
                return number
        return len(self._pieces) + ord(text[position])

    def text(self, number: int) -> str:
        """The text of one token. Raises ValueError when there is no such token."""
        if not 0 <= number < self.size:
            raise ValueError(f"there is no token {number}: tokens run from 0 to {self.size - 1}")
        if number < len(self._pieces):
            return self._pieces[number]
        return chr(number - len(self._pieces))

    def decode(self, numbers: Sequence[int]) -> str:
        """The text of some tokens. Raises ValueError when one of them does not exist."""
        return "".join(map(self.text, numbers))
