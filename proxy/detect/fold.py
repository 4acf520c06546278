"""Texts as they read, not as they are written: look-alikes become ASCII, the invisible is dropped."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

_INVISIBLE: Final = frozenset({"Cf", "Mn", "Me"})
_FILLERS: Final = frozenset("\u115f\u1160\u3164\uffa0")
# What compatibility decomposition leaves: letters of other scripts that read like ASCII, and signs.
_LOOKALIKES: Final[Mapping[str, str]] = {
    "A": "АΑᴀᎪ", "B": "ВΒʙᏴ", "C": "СϹᴄᏟ", "D": "Ꭰᴅ", "E": "ЕΕᴇᎬ", "F": "ϜꜰҒ", "G": "ԌɢᏀ", "H": "НΗʜᎻ",
    "I": "ІΙӀɪӏ", "J": "ЈᎫᴊ", "K": "КΚᴋᏦ", "L": "ʟᏞԼ", "M": "МΜᴍᎷϺ", "N": "Νɴ", "O": "ОΟᴏՕ", "P": "РΡᴘᏢ",
    "Q": "Ԛ", "R": "ʀᏒ", "S": "Ѕꜱ\u054f\u13da", "T": "ТΤᴛᎢ", "U": "Սᴜ", "V": "Ѵᴠ\u13d9", "W": "ԜᴡᎳ",
    "X": "ХΧ", "Y": "ΥҮʏУ", "Z": "ΖᴢᏃ",
    "a": "аαɑ", "b": "ЬƄ", "c": "сϲ", "d": "ԁɗđ", "e": "еєε", "f": "ſƒ", "g": "ɡց", "h": "һհ", "i": "іιıɩ",
    "j": "јϳȷ", "k": "кκ", "l": "ⅼłǀ", "m": "мⅿ", "n": "ոη", "o": "оοօσøס", "p": "рρ", "q": "ԛգ", "r": "гᴦ",
    "s": "ѕʂ", "t": "тτ", "u": "υսʋ", "v": "ѵν", "w": "ԝѡω", "x": "хχ", "y": "уүγʏ", "z": "ʐ",
    "-": "‐‒–—―−﹘➖\u2043", "'": "‘’‚‛′ʼʹ", '"': "“”„‟″«»", ".": "·•‧∙⋅。", "/": "∕⁄⧸", ":": "∶꞉ːː",
    "_": "ˍ", "*": "∗", "<": "‹", ">": "›", " ": "\u2800",
}  # fmt: skip
_STANDS_FOR: Final = {ord(sign): plain for plain, signs in _LOOKALIKES.items() for sign in signs}
_LETTER_RUNS: Final = (0x1F150, 0x1F170, 0x1F1E6)  # negative circled, negative squared, regional
_ALPHABET: Final = 26
_NOT_ASCII: Final = re.compile(r"[^\x00-\x7f]+")


class Folded(NamedTuple):
    """A folded text; ``offsets[i]`` is the index in the source of the folded character ``i``."""

    text: str
    offsets: Sequence[int]

    def source(self, start: int, end: int) -> tuple[int, int]:
        """The span in the source, in characters, that the non-empty span ``start:end`` was made from."""
        return self.offsets[start], self.offsets[end - 1] + 1


def fold(text: str) -> Folded:
    """``text`` folded character by character, so that a text cut anywhere folds to the same.

    Compatibility forms (full-width, circled, mathematical, ligatures), accents, decimal digits of all
    scripts, and Cyrillic, Greek and other letters that read like Latin become ASCII; format
    characters, combining marks and variation selectors are dropped. Source: Unicode Standard Annex 15
    and Unicode Technical Standard 39.
    """
    if text.isascii():
        return Folded(text, range(len(text)))
    parts: list[str] = []
    offsets: list[int] = []
    done = 0
    for run in _NOT_ASCII.finditer(text):
        start, end = run.span()
        parts.append(text[done:start])
        offsets.extend(range(done, start))
        for index in range(start, end):
            plain = _TABLE[text[index]]
            parts.append(plain)
            offsets.extend([index] * len(plain))
        done = end
    parts.append(text[done:])
    offsets.extend(range(done, len(text)))
    return Folded("".join(parts), offsets)


class _Table(dict[str, str]):
    """Folds a character once; bounded by the number of characters there are."""

    def __missing__(self, char: str) -> str:
        plain = self[char] = _fold(char)
        return plain


_TABLE: Final = _Table()


def _fold(char: str) -> str:
    if unicodedata.category(char) in _INVISIBLE or char in _FILLERS:
        return ""
    plain = "".join(map(_plain, unicodedata.normalize("NFKD", char)))
    # A syllable that falls apart into letters of its own script is left whole.
    return plain if len(plain) == 1 or plain.isascii() else char


def _plain(char: str) -> str:
    if char < "\x80":
        return char
    if unicodedata.category(char) in _INVISIBLE:
        return ""
    known = _STANDS_FOR.get(ord(char))
    return known or _digit(char) or _letter(char) or char


def _digit(char: str) -> str:
    value = unicodedata.digit(char, None)
    return "" if value is None else str(value)


def _letter(char: str) -> str:
    for first in _LETTER_RUNS:
        if first <= ord(char) < first + _ALPHABET:
            return chr(ord("A") + ord(char) - first)
    return ""
