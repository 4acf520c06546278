"""Reversible masking: placeholders that only the call that made them turns back into values."""

import hmac
import json
import secrets
from base64 import b32encode
from collections.abc import Collection, Iterable, Iterator
from itertools import count
from typing import Final

from ahocorasick_rs import AhoCorasick, MatchKind

from proxy.fakes import FAKES

_KEY_BYTES: Final = 32
_SUFFIX: Final = 6  # base-32 characters: thirty bits that no model guesses
_KEYED_SUFFIX: Final = 10  # fifty bits: without a number, they alone tell one value from another
_TRIES: Final = 8
_NUMBER_BYTES: Final = 12


class Vault:
    """The values masked in one call, and what stands for each.

    The same value has the same placeholder, such as ``<EMAIL_1_k7q2ab>``: kind and number are there
    for the model to reason about, the rest makes it this call's own. With a ``key``, such as a
    conversation keeps, the value alone says how it is masked, as ``<EMAIL_k7q2abx4mz>``: a number would
    depend on what else the call holds. Either way only what this vault masked is turned back. With
    ``fakes``, e-mail addresses, cards and names become others that look real and stand in none of
    ``avoid``, the texts of the call; all other kinds keep placeholders.
    """

    __slots__ = ("_avoid", "_counts", "_fakes", "_key", "_keyed", "_masks", "_values")

    def __init__(
        self, *, key: bytes | None = None, fakes: bool = False, avoid: Collection[str] = ()
    ) -> None:
        self._key = key or secrets.token_bytes(_KEY_BYTES)
        self._keyed = key is not None
        self._fakes = fakes
        self._avoid = avoid
        self._masks: dict[str, str] = {}  # value → mask
        self._values: dict[str, str] = {}  # mask → value
        self._counts: dict[str, int] = {}  # kind → how many

    def __len__(self) -> int:
        return len(self._masks)

    def __contains__(self, text: str) -> bool:
        """Whether ``text`` is a mask of this vault."""
        return text in self._values

    def __repr__(self) -> str:
        return f"Vault({len(self)} values)"

    def mask(self, kind: str, value: str) -> str:
        """What stands for ``value``; an empty value stands for itself."""
        if not value:
            return value
        if (known := self._masks.get(value)) is not None:
            return known
        mask = self._fake(kind, value) or self._placeholder(kind, value)
        self._masks[value] = mask
        self._values[mask] = value
        return mask

    def mask_spans(self, text: str, spans: Iterable[tuple[int, int, str]]) -> str:
        """``text`` with each (start, end, kind) masked; overlapping spans are masked as one."""
        pieces: list[str] = []
        done = 0
        for start, end, kind in _merged(spans):
            pieces += [text[done:start], self.mask(kind, text[start:end])]
            done = end
        return "".join([*pieces, text[done:]])

    def restorer(self, *, inside_json: bool = False) -> "Restorer":
        """Restores one text that comes in pieces: one choice's one field.

        ``inside_json`` is for texts that are JSON themselves, such as the arguments of a tool call:
        values are then escaped as within a JSON string.
        """
        return Restorer(self._values, inside_json=inside_json)

    def restore(self, text: str, *, inside_json: bool = False) -> str:
        """``text`` with everything this vault made turned back, and nothing else."""
        whole = self.restorer(inside_json=inside_json)
        return whole.feed(text) + whole.finish()

    def _placeholder(self, kind: str, value: str) -> str:
        label = "".join(char if char.isascii() and char.isalnum() else "_" for char in kind.upper())
        if self._keyed:
            made = (f"<{label}_{self._own(label, value, i)[:_KEYED_SUFFIX]}>" for i in count())
            return next(mask for mask in made if mask not in self._values)
        number = self._counts[label] = self._counts.get(label, 0) + 1
        return f"<{label}_{number}_{self._own(label, value, 0)[:_SUFFIX]}>"

    def _own(self, label: str, value: str, attempt: int) -> str:
        return b32encode(self._digest(label, value, attempt)).decode().lower()

    def _fake(self, kind: str, value: str) -> str | None:
        make = FAKES.get(kind) if self._fakes else None
        if make is None or not value.isascii() or (kind == "card" and not _drawable(value)):
            return None
        for attempt in range(1, _TRIES):
            number = int.from_bytes(self._digest(kind, value, attempt)[:_NUMBER_BYTES])
            fake = make(value, number)
            if self._free(fake, value):
                return fake
        return None

    def _free(self, fake: str, value: str) -> bool:
        """No mask may be a part of another, or of what the call says by itself."""
        apart = not any(fake in other or other in fake for other in self._values)
        return apart and fake != value and not any(fake in text for text in self._avoid)

    def _digest(self, kind: str, value: str, attempt: int) -> bytes:
        message = json.dumps([kind, value, attempt]).encode()
        return hmac.digest(self._key, message, "sha256")


def conversation_key(secret: bytes, principal: str, name: str) -> bytes:
    """The key of one conversation of one caller: every worker derives it alike, and no caller another's."""
    return hmac.digest(secret, json.dumps([principal, name]).encode(), "sha256")


class Restorer:
    """Turns masks back in a text that comes in pieces cut anywhere.

    What is put out is, for every cut, what the whole text would have given; only a suffix that may still
    become a mask is held back.
    """

    __slots__ = (
        "_after",
        "_beginnings",
        "_buffer",
        "_index",
        "_inside_json",
        "_longest",
        "_masks",
        "_values",
    )

    def __init__(self, values: dict[str, str], *, inside_json: bool = False) -> None:
        self._values = dict(values)
        self._inside_json = inside_json
        masks = self._masks = list(values)
        self._index = AhoCorasick(masks, matchkind=MatchKind.Standard) if masks else None
        self._beginnings = {mask[:end] for mask in masks for end in range(1, len(mask))}
        self._beginnings.update(mask for mask in masks if _needs_neighbours(mask))
        self._longest = max(map(len, masks), default=0)
        self._buffer = ""
        self._after = ""  # the character before the buffer

    @property
    def held(self) -> int:
        """Characters held back."""
        return len(self._buffer)

    def feed(self, text: str) -> str:
        """What can be put out now that ``text`` has come."""
        if self._index is None:
            return text
        return self._advance(text, last=False)

    def finish(self) -> str:
        """What was held back, now that nothing more comes."""
        return self._advance("", last=True) if self._index is not None else ""

    def _advance(self, text: str, *, last: bool) -> str:
        buffer = self._buffer + text
        pieces: list[str] = []
        done = 0
        for start, end, mask in self._found(buffer, last=last):
            if start >= done:
                pieces += [buffer[done:start], self._value(mask)]
                done = end
        hold = len(buffer) if last else self._hold(buffer, done)
        pieces.append(buffer[done:hold])
        if hold:
            self._after = buffer[hold - 1]
        self._buffer = buffer[hold:]
        return "".join(pieces)

    def _found(self, buffer: str, *, last: bool) -> Iterator[tuple[int, int, str]]:
        """Masks that stand alone, in order; a fake at the very end waits for its right neighbour."""
        if self._index is None:
            return
        for which, start, end in sorted(
            self._index.find_matches_as_indexes(buffer, overlapping=True), key=lambda m: m[1]
        ):
            mask = self._masks[which]
            if not _needs_neighbours(mask):
                yield start, end, mask
            elif end < len(buffer) or last:
                left = buffer[start - 1] if start else self._after
                if not _joins(left, mask[0]) and not _joins(mask[-1], buffer[end : end + 1]):
                    yield start, end, mask

    def _hold(self, buffer: str, done: int) -> int:
        """Where the longest suffix begins that may still become a mask."""
        for start in range(max(done, len(buffer) - self._longest), len(buffer)):
            if buffer[start:] in self._beginnings:
                left = buffer[start - 1] if start else self._after
                if buffer[start] == "<" or not _joins(left, buffer[start]):
                    return start
        return len(buffer)

    def _value(self, mask: str) -> str:
        value = self._values[mask]
        return json.dumps(value, ensure_ascii=False)[1:-1] if self._inside_json else value


def _merged(spans: Iterable[tuple[int, int, str]]) -> Iterator[tuple[int, int, str]]:
    """Spans in order, those that overlap joined; of several kinds the one that begins first counts."""
    current: tuple[int, int, str] | None = None
    for start, end, kind in sorted(spans, key=lambda span: (span[0], -span[1])):
        if end <= start:
            continue
        if current is not None and start < current[1]:
            current = (current[0], max(current[1], end), current[2])
            continue
        if current is not None:
            yield current
        current = (start, end, kind)
    if current is not None:
        yield current


def _needs_neighbours(mask: str) -> bool:
    """A placeholder has its own brackets; a fake ends where the word or the number around it ends."""
    return not mask.startswith("<")


def _joins(left: str, right: str) -> bool:
    """Whether two characters belong to one word or number, so that a fake between them was altered."""
    return left.isalnum() and right.isalnum()


def _drawable(value: str) -> bool:
    digits = sum(map(str.isdigit, value))
    return 12 <= digits <= 19  # noqa: PLR2004 - ISO/IEC 7812: the lengths a card number has
