"""Reviews a stream chunk by chunk: every text of every choice, wherever it stands and however it is cut."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from proxy.chunks import Chunk, append, says, shape_of
from proxy.continued import Continued, says_nothing, split
from proxy.labels import BEYOND, Labels, is_name
from proxy.per_token import PER_TOKEN
from proxy.policy import Refusal, Refused
from proxy.review import REPLY_KEYS, Field, Review, Withheld
from proxy.stream import StreamState
from proxy.texts import Place

#: Texts of a choice that come whole in one chunk: they are looked at, but not waited for.
_WHOLE: Final = frozenset({"finish_reason", "format", "id", "object", "role", "type"})
#: Those of them that some clients join when they come in pieces.
_FOLLOWED: Final = frozenset({"id", "role"})
#: Roles of the API reference; some servers say one in every chunk.
_ROLES: Final = frozenset({"assistant", "developer", "function", "system", "tool", "user"})
#: Chunks that may wait for the end of a name.
_MOST_WAITING: Final = 256
#: Objects that Azure adds to a choice again and again; none of their texts is continued.
_WHOLE_OBJECTS: Final = frozenset({"content_filter_results", "content_filter_result"})
#: What one chunk says, and the next does not.
_ONCE: Final = frozenset({"error", "obfuscation", "usage"})
_MOST_KNOWN: Final = 256
_MOST_FIELDS: Final = 4096


class StreamReview:
    """The review of one stream. After a refusal (``refusal``) nothing more of it may be sent."""

    def __init__(self, review: Review) -> None:
        self._review = review
        self.may_change = review.may_change
        self.state = StreamState()  # of what was sent
        self._fields: dict[int, dict[Place, Field]] = {}
        self._labels = Labels(review)
        self._waiting: dict[int, list[Chunk]] = {}  # choices with a label that may still grow
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
        self._last: Continued | None = None
        self.refusal: Refusal | None = None

    @property
    def removed(self) -> tuple[str, ...]:
        """What was taken out so far, because it repeats texts token by token."""
        return tuple(sorted(self._review.removed)) if self.may_change else ()

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
        before: list[Chunk] = []
        kept: list[Chunk] = []
        try:
            if self._last is not None and (text := self._last.text(payload)):
                return self._continue(self._last, text)
            self._shape = shape_of(choices) or self._shape
            shown = self._members(payload)
            if not isinstance(choices, list):
                return [shown]
            for choice in choices:
                # What is no object is no choice; nobody looked at it, so nobody gets it.
                said = self._choice(choice) if isinstance(choice, dict) else []
                before += [self._chunk([one]) for one in said[:-1]]
                kept += said[-1:]
        except Withheld as withheld:
            return [*before, *self._withheld(kept, withheld)]
        self._last = self._plain(payload, kept) if not before else None
        held = bool(choices) and not kept and not shown.get("usage")
        return [*before, *([] if held else [{**shown, "choices": kept}])]

    def _plain(self, payload: Mapping[str, Any], kept: list[Chunk]) -> Continued | None:
        """This chunk, if others may continue it: those are looked at in a shorter way."""
        choices = payload["choices"]
        if len(choices) != 1 or len(kept) != 1:
            return None
        if any(payload.get(name) is not None for name in _ONCE):
            return None
        place: Place = ("delta", "content") if self._shape == "delta" else (self._shape,)
        field = self._fields.get(self._index, {}).get(place)
        said = split(choices[0], place)
        if field is None or said is None or not says_nothing(said[0]):
            return None
        if self._labels.waits(self._index):
            return None
        around = {key: value for key, value in payload.items() if key != "choices"}
        return Continued(around, said[0], kept[0], self._index, place, field)

    def _continue(self, last: Continued, text: str) -> list[Chunk]:
        self._index, self._place = last.number, last.place
        shown = last.field.feed(text)
        return [{**self._around, "choices": [last.with_text(shown)]}] if shown else []

    def _rest(self) -> list[Chunk]:
        before: list[Chunk] = []
        kept: list[Chunk] = []
        try:
            for index in list({**self._fields, **self._waiting}):
                self._index = index
                choice = self._flushed(self._bare(index, None))
                self._labels.settle(index, last=True)
                before += [self._chunk([one]) for one in self._waiting.pop(index, ())]
                kept += [choice] if says(choice) else []
        except Withheld as withheld:
            return [*before, *self._withheld(kept, withheld)]
        return [*before, *([self._chunk(kept)] if kept else [])]

    # -- what stands around the choices ------------------------------------------------------------

    def _members(self, payload: Mapping[str, Any]) -> Chunk:
        """Everything but the choices; most of it stands in every chunk, and is looked at once."""
        self._place = ()
        shown: Chunk = {}
        for key, value in payload.items():
            if key == "choices" or self._is_removed(key, value):
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

    def _choice(self, choice: Chunk) -> list[Chunk]:
        """The choice as it may be sent, behind those that waited for it; none, when all is held back."""
        index = choice.get("index")
        self._index = index if type(index) is int else 0
        self._place = ()
        self._open[self._index] = None
        shown: Chunk = self._walked(choice, ())
        ends = bool(shown.get("finish_reason"))
        if ends:
            shown = self._flushed(shown)
        is_shown = self._labels.settle(self._index, last=ends)
        if ends:
            self._open.pop(self._index, None)
        waiting = self._waiting.pop(self._index, [])
        if len(waiting) > _MOST_WAITING:
            raise Withheld("", (BEYOND, "policy"))
        if not is_shown:
            self._waiting[self._index] = [*waiting, shown]
            return []
        return [*filter(says, waiting), *([shown] if says(shown) or not says(choice) else [])]

    def _walked(self, value: Any, place: Place) -> Any:
        if isinstance(value, str):
            return self._text(value, place)
        if isinstance(value, dict):
            shown: Chunk = {}
            for key, item in value.items():
                if self._is_removed(key, item):
                    shown |= {key: None} if key == "logprobs" else {}
                else:
                    name = key if key in REPLY_KEYS else self._name(key, place)
                    here = (*place, name)
                    if isinstance(item, str) and item and is_name(here):
                        self._labels.see(self._index, here, item, shown)
                    else:
                        shown[name] = self._walked(item, here)
            return shown
        if isinstance(value, list):
            return [
                self._walked(item, (*place, self._number(item, at, place)))
                for at, item in enumerate(value)
            ]
        return value

    def _is_removed(self, key: str, value: Any) -> bool:
        if key in PER_TOKEN and value is not None:
            self._review.removed.add(key)
        return key in PER_TOKEN

    def _name(self, key: str, place: Place) -> str:
        """The name of a member that the API does not know."""
        if (place, key) not in self._names:
            if len(self._names) >= _MOST_FIELDS:
                raise Withheld("", (BEYOND, "policy"))
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
            if place[-1] in _FOLLOWED and value not in _ROLES:
                self._labels.follow(self._index, place, value)
            return str(*self._fixed(str(place[-1]), value).values())
        fields = self._fields.setdefault(self._index, {})
        if place not in fields:
            self._made += 1
            if (self._index, place) in self._over or self._made > _MOST_FIELDS:
                raise Withheld("", (BEYOND, "policy"))
            fields[place] = self._review.field(("choices", self._index, *place))
        return fields[place].feed(value)

    def _flushed(self, choice: Chunk) -> Chunk:
        """The choice with everything that was held for it: its texts are complete."""
        for place, field in self._fields.pop(self._index, {}).items():
            self._over.add((self._index, place))
            self._place = place
            if text := field.finish():
                append(choice, place, text)
        return choice

    # -- the end of a stream that is refused -------------------------------------------------------

    def _withheld(self, kept: list[Chunk], withheld: Withheld) -> list[Chunk]:
        last = self._bare(self._index, None)
        if withheld.text:
            append(last, self._place, withheld.text)
            kept = [*kept, last]
        return self._ended(withheld.refusal, kept)

    def _ended(self, refusal: Refusal, kept: list[Chunk] | None = None) -> list[Chunk]:
        """What may still be sent, and that every choice ends here."""
        self.refusal = refusal
        self._fields.clear()
        self._labels.clear()
        self._waiting.clear()
        said = [self._chunk(kept)] if kept else []
        ends = [self._bare(index, "content_filter") for index in self._open or (0,)]
        return [*said, self._chunk(ends)]

    def _bare(self, index: int, reason: str | None) -> Chunk:
        """A choice without a text."""
        empty: Chunk = {"delta": {}} if self._shape == "delta" else {self._shape: ""}
        return {"index": index, **empty, "logprobs": None, "finish_reason": reason}


def _comes_whole(place: Place) -> bool:
    """Whether the text there is said once, or again and again; of a choice itself only ``text`` is continued."""
    if len(place) == 1:
        return place[0] != "text"
    return place[-1] in _WHOLE or not _WHOLE_OBJECTS.isdisjoint(place)
