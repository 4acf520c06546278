"""Names in a stream: searched as a whole and shown in one piece, wherever they were cut."""

from typing import Final

from proxy.chunks import Chunk
from proxy.model import Deny
from proxy.review import Review, Withheld
from proxy.texts import Place

_TAIL: Final = 256  # characters that a further piece is read together with
_MOST_CLEAN: Final = 1_024
_LONGEST: Final = 4_096  # characters of a name that comes in pieces
_MOST: Final = 4_096  # names and ids of a stream
BEYOND: Final = Deny(
    "The rest of the reply could not be reviewed, so it is withheld: its texts go on after their end,"
    " or are too many.",
    code="reply_not_reviewable", status=502,
)  # fmt: skip


def is_name(place: Place) -> bool:
    """Whether the text at ``place`` of a choice is a name, such as that of a function."""
    return len(place) > 1 and place[-1] == "name"


class _Name:
    """One name as far as it came, and the objects it is to be put into when it is complete."""

    def __init__(self, piece: str, target: Chunk) -> None:
        self.said = piece
        self.pieces = 1
        self.targets = [target]
        self.grows = True


class Labels:
    """The names and ids of one stream.

    A name is complete when a chunk of its choice does not continue it. Ids are not waited for, because
    some servers say another one in every chunk.
    """

    def __init__(self, review: Review) -> None:
        self._review = review
        self._open: dict[int, dict[Place, _Name]] = {}
        self._known: dict[tuple[int, Place], tuple[str, str]] = {}  # as it came, as it was shown
        self._tails: dict[tuple[int, Place], str] = {}
        self._clean: set[tuple[str, str]] = set()  # joined already: a name may come in every chunk

    def see(self, index: int, place: Place, piece: str, target: Chunk) -> None:
        """A piece of the name at ``place`` of a choice; all of it will stand in ``target``, where it began there.

        Raises ``Withheld`` for what would make a finding with what was shown already.
        """
        name = self._open.setdefault(index, {}).get(place)
        known, shown = self._known.get((index, place), ("", ""))
        again = piece == (known if name is None else name.said if name.pieces == 1 else None)
        self._join(index, place, piece, searched=name is None or again)
        target["name"] = shown if again and name is None else ""
        if name is None and not again:
            self._open[index][place] = _Name(piece, target)
        elif name is not None and again:
            name.targets.append(target)  # as some servers do in every chunk
        elif name is not None:
            name.said += piece
            name.pieces += 1
            name.grows = True
            if len(name.said) > _LONGEST:
                raise Withheld("", (BEYOND, "policy"))

    def follow(self, index: int, place: Place, piece: str) -> None:
        """A piece of an id, which is not waited for; raises as ``see``."""
        if self._known.get((index, place)) != (piece, piece):
            self._known[index, place] = piece, piece
            self._join(index, place, piece, searched=True)

    def _join(self, index: int, place: Place, piece: str, *, searched: bool) -> None:
        """Read ``piece`` together with those before it."""
        tail = self._tails.get((index, place), "")
        if searched and tail and (tail, piece) not in self._clean:
            if self._review.crosses(tail, piece):
                raise Withheld("", (BEYOND, "policy"))
            if len(self._clean) < _MOST_CLEAN:
                self._clean.add((tail, piece))
        if len(self._tails) > _MOST:
            raise Withheld("", (BEYOND, "policy"))
        self._tails[index, place] = (tail + piece)[-_TAIL:]

    def waits(self, index: int) -> bool:
        """Whether a name of a choice may still grow."""
        return bool(self._open.get(index))

    def settle(self, index: int, *, last: bool) -> bool:
        """Show what is complete after a chunk of a choice, its ``last`` one or not; whether nothing waits.

        Raises ``Withheld``.
        """
        names = self._open.get(index, {})
        for place, name in list(names.items()):
            if last or not name.grows:
                del names[place]
                self._show(index, place, name)
            name.grows = False
        return not names

    def _show(self, index: int, place: Place, name: _Name) -> None:
        field = self._review.field(("choices", index, *place))
        try:
            shown = field.feed(name.said) + field.finish()
        except Withheld as withheld:
            raise Withheld("", withheld.refusal) from None  # half a name is none
        for target in name.targets:
            target["name"] = shown
        self._known[index, place] = name.said, shown

    def clear(self) -> None:
        """Forget what is not complete."""
        self._open.clear()
