"""Reviews a stream chunk by chunk: every text of every choice, wherever it stands and however it is cut."""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from typing import Any, Final

from proxy.model import Deny
from proxy.policy import Refusal, Refused
from proxy.review import PER_TOKEN, REPLY_KEYS, Field, Review, Withheld
from proxy.stream import StreamState
from proxy.texts import Place

#: Texts of a choice that come whole in one chunk: they are looked at, but not waited for.
_WHOLE: Final = frozenset({"finish_reason", "format", "id", "name", "object", "role", "type"})
#: Objects that Azure adds to a choice again and again; none of their texts is continued.
_WHOLE_OBJECTS: Final = frozenset({"content_filter_results", "content_filter_result"})
#: What one chunk says, and the next does not.
_ONCE: Final = frozenset({"error", "obfuscation", "usage"})
_MOST_KNOWN: Final = 256
_MOST_FIELDS: Final = 4096
_BEYOND: Final = Deny(
    "The rest of the reply could not be reviewed, so it is withheld: its texts go on after their end,"
    " or are too many.",
    code="reply_not_reviewable", status=502,
)  # fmt: skip

Chunk = dict[str, Any]


class StreamReview:
    """The review of one stream. After a refusal (``refusal``) nothing more of it may be sent."""

    def __init__(self, review: Review) -> None:
        self._review = review
        self.may_change = review.may_change
        self.state = StreamState()  # of what was sent
        self._fields: dict[int, dict[Place, Field]] = {}
        self._made = 0
        self._over: set[tuple[int, Place]] = set()  # texts that were said to be complete
        self._open: dict[int, None] = {}  # choices that have begun and not ended
        self._known: dict[tuple[str, str], Chunk] = {}
        self._names: dict[tuple[Place, str], str] = {}
        self._calls: dict[tuple[int, Place], int] = {}
        self._around: Chunk = {}  # what stood around the choices of the last chunk, as it was shown
        self._shape = "text"  # where the choices of this endpoint have their text
        self._index = 0
        self._place: Place = ()
        self.refusal: Refusal | None = None

    def see(self, payload: Mapping[str, Any]) -> list[Chunk]:
        """The chunks to send for this one: none, when all of it is held back."""
        return self._attempt(partial(self._seen, payload))

    def finish(self) -> list[Chunk]:
        """The chunks with what is still held, when nothing more comes."""
        return self._attempt(self._rest)

    def _attempt(self, search: Callable[[], list[Chunk]]) -> list[Chunk]:
        try:
            chunks = self._review.attempt(search)
        except Refused as refused:
            chunks = self._ended(refused.refusal)
        for chunk in chunks:
            self.state.see(chunk)
        return chunks

    def _seen(self, payload: Mapping[str, Any]) -> list[Chunk]:
        choices = payload.get("choices")
        kept: list[Chunk] = []
        try:
            self._shape = _shape(choices) or self._shape
            shown = self._members(payload)
            if not isinstance(choices, list):
                return [shown]
            for choice in choices:
                # What is no object is no choice; nobody looked at it, so nobody gets it.
                said = self._choice(choice) if isinstance(choice, dict) else None
                kept += [] if said is None else [said]
        except Withheld as withheld:
            return self._withheld(kept, withheld)
        held = bool(choices) and not kept and not shown.get("usage")
        return [] if held else [{**shown, "choices": kept}]

    def _rest(self) -> list[Chunk]:
        kept: list[Chunk] = []
        try:
            for index in list(self._fields):
                self._index = index
                choice = self._flushed(self._bare(index, None))
                if _says(choice):
                    kept.append(choice)
        except Withheld as withheld:
            return self._withheld(kept, withheld)
        return [self._chunk(kept)] if kept else []

    # -- what stands around the choices ------------------------------------------------------------

    def _members(self, payload: Mapping[str, Any]) -> Chunk:
        """Everything but the choices; most of it stands in every chunk, and is looked at once."""
        self._place = ()
        shown: Chunk = {}
        for key, value in payload.items():
            if key == "choices" or key in PER_TOKEN:
                continue
            if key == "obfuscation" and isinstance(value, str):
                shown[key] = "x" * len(value)  # padding: only its length says something
            elif isinstance(value, str | dict | list):
                shown |= self._fixed(key, value)
            else:
                shown[key if key in REPLY_KEYS else self._name(key, ())] = value
        self._around = shown
        return shown

    def _chunk(self, choices: list[Chunk]) -> Chunk:
        """A chunk of our own, which looks like the last that was seen."""
        around = {k: v for k, v in self._around.items() if k not in _ONCE}
        return {**around, "choices": choices}

    def _fixed(self, key: str, value: Any) -> Chunk:
        """A member that comes whole, as it may be shown."""
        if isinstance(value, str) and (key, value) in self._known:
            return self._known[key, value]
        shown, refusal = self._review.judged({key: value})
        if refusal is not None:
            raise Withheld("", refusal)
        member = dict(shown)
        if isinstance(value, str) and len(self._known) < _MOST_KNOWN:
            self._known[key, value] = member
        return member

    # -- one choice --------------------------------------------------------------------------------

    def _choice(self, choice: Chunk) -> Chunk | None:
        """The choice as it may be sent, or None when all that it says is held back."""
        index = choice.get("index")
        self._index = index if type(index) is int else 0
        self._place = ()
        self._open[self._index] = None
        shown: Chunk = self._walked(choice, ())
        if shown.get("finish_reason"):
            shown = self._flushed(shown)
            self._open.pop(self._index, None)
        return shown if _says(shown) or not _says(choice) else None

    def _walked(self, value: Any, place: Place) -> Any:
        if isinstance(value, str):
            return self._text(value, place)
        if isinstance(value, dict):
            shown: Chunk = {}
            for key, item in value.items():
                if key == "logprobs":
                    shown[key] = None
                elif key not in PER_TOKEN:
                    name = key if key in REPLY_KEYS else self._name(key, place)
                    shown[name] = self._walked(item, (*place, name))
            return shown
        if isinstance(value, list):
            return [
                self._walked(item, (*place, self._number(item, at, place)))
                for at, item in enumerate(value)
            ]
        return value

    def _name(self, key: str, place: Place) -> str:
        """The name of a member that the API does not know."""
        if (place, key) not in self._names:
            if len(self._names) >= _MOST_FIELDS:
                raise Withheld("", (_BEYOND, "policy"))
            (name,) = self._fixed(key, None)
            if name != key:
                alike = sum(shown.startswith(name) for shown in self._names.values())
                name += f"#{alike + 1}" if alike else ""
            self._names[place, key] = name
        return self._names[place, key]

    def _number(self, item: Any, at: int, place: Place) -> int:
        """Tool calls say which one they continue; where they do not, a new id begins a new one."""
        if not isinstance(item, dict):
            return at
        if type(index := item.get("index")) is int:
            return index
        here = (self._index, place)
        if item.get("id"):
            self._calls[here] = self._calls.get(here, -1) + 1
        return self._calls.get(here, at)

    def _text(self, value: str, place: Place) -> str:
        if not value:
            return value
        self._place = place
        if _comes_whole(place):
            return str(*self._fixed(str(place[-1]), value).values())
        fields = self._fields.setdefault(self._index, {})
        if place not in fields:
            self._made += 1
            if (self._index, place) in self._over or self._made > _MOST_FIELDS:
                raise Withheld("", (_BEYOND, "policy"))
            fields[place] = self._review.field(("choices", self._index, *place))
        return fields[place].feed(value)

    def _flushed(self, choice: Chunk) -> Chunk:
        """The choice with everything that was held for it: its texts are complete."""
        for place, field in self._fields.pop(self._index, {}).items():
            self._over.add((self._index, place))
            self._place = place
            if text := field.finish():
                _append(choice, place, text)
        return choice

    # -- the end of a stream that is refused -------------------------------------------------------

    def _withheld(self, kept: list[Chunk], withheld: Withheld) -> list[Chunk]:
        last = self._bare(self._index, None)
        if withheld.text:
            _append(last, self._place, withheld.text)
            kept = [*kept, last]
        return self._ended(withheld.refusal, kept)

    def _ended(self, refusal: Refusal, kept: list[Chunk] | None = None) -> list[Chunk]:
        """What may still be sent, and that every choice ends here."""
        self.refusal = refusal
        self._fields.clear()
        said = [self._chunk(kept)] if kept else []
        ends = [self._bare(index, "content_filter") for index in self._open or (0,)]
        return [*said, self._chunk(ends)]

    def _bare(self, index: int, reason: str | None) -> Chunk:
        """A choice without a text."""
        empty: Chunk = {"delta": {}} if self._shape == "delta" else {self._shape: ""}
        return {"index": index, **empty, "logprobs": None, "finish_reason": reason}


def _shape(choices: Any) -> str:
    """Whether choices have a ``delta`` or a ``text``, as the first one says."""
    first = choices[0] if isinstance(choices, list) and choices else None
    names = first if isinstance(first, dict) else ()
    return next((name for name in ("delta", "text") if name in names), "")


def _comes_whole(place: Place) -> bool:
    """Whether the text there is said once, or again and again; of a choice itself only ``text`` is continued."""
    if len(place) == 1:
        return place[0] != "text"
    return place[-1] in _WHOLE or not _WHOLE_OBJECTS.isdisjoint(place)


def _says(choice: Mapping[str, Any]) -> bool:
    """Whether a choice holds anything that a reader would notice."""
    return any(
        _contents(value) for key, value in choice.items() if key not in ("index", "logprobs")
    )


def _contents(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_contents(item) for key, item in value.items() if key != "index")
    if isinstance(value, list):
        return any(map(_contents, value))
    return value not in (None, "")


def _append(choice: Chunk, place: Place, text: str) -> None:
    """Put ``text`` behind what stands at ``place``, making the way there."""
    here: Any = choice
    for step, following in pairwise(place):
        if isinstance(here, list):
            here = _item(here, step)
        else:
            if not isinstance(here.get(step), dict | list):
                here[step] = [] if isinstance(following, int) else {}
            here = here[step]
    if isinstance(here, list):
        here.append(text)
    else:
        here[place[-1]] = (here.get(place[-1]) or "") + text


def _item(items: list[Any], index: str | int) -> Any:
    for item in items:
        if isinstance(item, dict) and item.get("index") == index:
            return item
    items.append({"index": index})
    return items[-1]
