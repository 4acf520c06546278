"""Turns the steps of a model into pieces of text that keep every promise about stop strings."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from proxy.demo.textmodel import Step


@dataclass(frozen=True, slots=True)
class Piece:
    """Some text of one choice and the tokens it is made of.

    `spent` counts the tokens the model has written for it: more than there are steps where a stop
    string was cut off, none where a prompt is echoed. `finish` is set in the last piece only, which
    has no text.
    """

    text: str = ""
    steps: tuple[Step, ...] = ()
    spent: int = 0
    finish: str | None = None


def joined(pieces: Iterator[Piece]) -> Piece:
    """All pieces of one choice as a single one."""
    found = list(pieces)
    return Piece(
        "".join(piece.text for piece in found),
        tuple(step for piece in found for step in piece.steps),
        sum(piece.spent for piece in found),
        found[-1].finish,
    )


def cut(steps: Iterator[Step], stops: Sequence[str], limit: int) -> Iterator[Piece]:
    """The text of at most `limit` steps, ended before the first stop string.

    A token is held back for as long as its text could be the beginning of a stop string; a token
    that lies across the beginning of one is listed whole, and its text is cut.
    """
    held: list[Step] = []
    count = 0
    for step in islice(steps, limit):
        count += 1
        held.append(step)
        text = _text(held)
        end = min((at for stop in stops if (at := text.find(stop)) >= 0), default=-1)
        if end >= 0:
            yield Piece(text[:end], _within(held, end), len(held))
            yield Piece(finish="stop")
            return
        ready = _within(held, len(text) - _hopeful(text, stops), whole=True)
        if ready:
            del held[: len(ready)]
            yield Piece(_text(ready), ready, len(ready))
    if held:
        yield Piece(_text(held), tuple(held), len(held))
    yield Piece(finish="length" if count == limit else "stop")


def _text(steps: Sequence[Step]) -> str:
    return "".join(step.text for step in steps)


def _hopeful(text: str, stops: Sequence[str]) -> int:
    """How many characters at the end of `text` may yet become a stop string."""
    return max(
        (size for stop in stops for size in range(1, len(stop)) if text.endswith(stop[:size])),
        default=0,
    )


def _within(steps: Sequence[Step], end: int, *, whole: bool = False) -> tuple[Step, ...]:
    """The steps that begin (or, if `whole`, end) within the first `end` characters."""
    found, start = [], 0
    for step in steps:
        stop = start + len(step.text)
        if start >= end or (whole and stop > end):
            break
        found.append(step)
        start = stop
    return tuple(found)


def interleaved(
    choices: Sequence[Iterator[Piece]], delay: float = 0.0
) -> Iterator[tuple[int, Piece]]:
    """The pieces of all choices in turn, `delay` seconds between two rounds."""
    live = dict(enumerate(choices))
    while live:
        for index, pieces in list(live.items()):
            piece = next(pieces, None)
            if piece is None:
                del live[index]
            else:
                yield index, piece
        if live and delay:
            time.sleep(delay)
