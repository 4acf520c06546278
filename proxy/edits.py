"""Puts something else in the place of what was found."""

import json
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from proxy.mask import Vault
from proxy.texts import Place

#: Texts that are JSON themselves: what a tool is called with (OpenAI API reference, "Function calling").
_JSON_TEXTS: Final = frozenset({"arguments", "partial_json"})


class Edit(NamedTuple):
    """One span of a text, in characters: to be masked, or redacted for good."""

    start: int
    end: int
    kind: str
    mask: bool


def edited(
    text: str, edits: Iterable[Edit], vault: Vault | None, *, inside_json: bool = False
) -> str:
    """``text`` with each span replaced by ``[KIND]`` or a mask; spans that overlap become one.

    Where one of them is to be redacted for good, all of it is; without a ``vault`` nothing is masked.
    ``inside_json`` is for texts that are JSON themselves: a mask then stands for what is meant there.
    """
    pieces: list[str] = []
    done = 0
    for edit in _merged(edits):
        value = text[edit.start : edit.end]
        if edit.mask and vault is not None:
            put = vault.mask(edit.kind, _meant(value) if inside_json else value)
        else:
            put = f"[{edit.kind.upper()}]"
        pieces += [text[done : edit.start], put]
        done = edit.end
    return "".join([*pieces, text[done:]])


def _merged(edits: Iterable[Edit]) -> Iterator[Edit]:
    """The edits from left to right, those that overlap as one, named after the first of the longest."""
    current: Edit | None = None
    for edit in sorted(edits, key=lambda edit: (edit.start, -edit.end)):
        if current is None or edit.start >= current.end:
            if current is not None:
                yield current
            current = edit
        else:
            end, mask = max(current.end, edit.end), current.mask and edit.mask
            current = current._replace(end=end, mask=mask)
    if current is not None:
        yield current


def is_json(place: Place) -> bool:
    """Whether the text at ``place`` is JSON itself."""
    return bool(place) and place[-1] in _JSON_TEXTS


def _meant(value: str) -> str:
    """What a part of a JSON string stands for, where it can be put back."""
    try:
        plain = json.loads(f'"{value}"')
        plain.encode()
    except ValueError:  # cut within an escape
        return value
    return str(plain)
