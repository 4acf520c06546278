"""Reviews a reply: finds what must not come in, puts back what was masked on the way out."""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar

from proxy.detect.engine import Piece, Span, Stream
from proxy.edits import Edit, edited, is_json
from proxy.mask import Restorer, Vault
from proxy.model import Action, Call, Deny
from proxy.per_token import PER_TOKEN, consistent
from proxy.policy import Policy, Refusal, Refused
from proxy.records import Finding
from proxy.screen import Hit, apply, findings, joined
from proxy.steps import Trail
from proxy.texts import Place, Text, place_name, replace, texts

#: Names of the API itself, in which nothing can hide.
REPLY_KEYS: Final = PER_TOKEN | {
    "annotations", "arguments", "audio", "bytes", "choices", "code", "completion_tokens",
    "completion_tokens_details", "content", "created", "data", "delta", "embedding", "error", "finish_reason",
    "function", "function_call", "id", "index", "message", "model", "name", "object", "obfuscation", "owned_by",
    "param", "prompt_tokens", "prompt_tokens_details", "reasoning", "reasoning_content", "refusal", "role",
    "service_tier", "stop_reason", "system_fingerprint", "text", "text_offset", "token", "token_logprobs",
    "tokens", "tool_calls", "top_logprobs", "total_tokens", "type", "usage", "logprob", "cached_tokens",
    "reasoning_tokens", "audio_tokens", "accepted_prediction_tokens", "rejected_prediction_tokens",
}  # fmt: skip
#: Headers that everybody sends.
_KNOWN_HEADERS: Final = frozenset({
    "apim-request-id", "content-type", "openai-model", "openai-organization", "openai-processing-ms",
    "openai-project", "openai-version", "retry-after", "retry-after-ms", "x-request-id", "x-should-retry",
    *(f"x-ratelimit-{what}-{of}" for what in ("limit", "remaining", "reset") for of in ("requests", "tokens")),
})  # fmt: skip
#: What they say of limits and times; programs read these, and a number alone tells nothing.
_AMOUNT: Final = re.compile(r"[0-9.hms]{1,10}")
_MEDIA: Final = frozenset(
    {"application/json", "text/event-stream", "text/event-stream; charset=utf-8"}
)
_SHORTEST_PART: Final = 3  # ("choices", 0, "text") is no part
_MOST_FINDINGS: Final = 1_000
Result = TypeVar("Result")
Headers: TypeAlias = list[tuple[str, str]]


class Withheld(Refused):
    """A text must not go on; ``text`` is what of it may still be sent."""

    def __init__(self, text: str, refusal: Refusal) -> None:
        super().__init__(refusal)
        self.text = text


class Review:
    """One call's review of its reply, whole or streamed; findings go to ``trail``."""

    def __init__(self, policy: Policy, call: Call, vault: Vault | None, trail: Trail) -> None:
        self._policy = policy
        self._active = policy.active(call, "response")
        self._vault = vault or None
        self._trail = trail
        #: Whether this reply may come out otherwise than it came in; a detector that fails may end it yet.
        self.may_change = bool(self._vault) or self._active.edits
        #: What was taken out because it repeated texts token by token.
        self.removed: set[str] = set()

    @property
    def is_needed(self) -> bool:
        """Whether this reply has to be looked at."""
        return bool(self._active) or self._vault is not None

    def attempt(self, search: Callable[[], Result]) -> Result:
        """Do ``search``, as a step of the chain; raises ``Refused`` when a detector fails in it."""
        return self._policy.attempt(search, self._active, self._trail)

    def whole(self, body: Any) -> tuple[Any, Refusal | None]:
        """A complete body as it may be shown (itself, where nothing changes), or the refusal."""
        try:
            return self.attempt(partial(self.judged, body))
        except Refused as refused:
            return body, refused.refusal

    def judged(self, body: Any) -> tuple[Any, Refusal | None]:
        """As ``whole``, within an attempt: raises ``DetectorFault``."""
        hits = self._search(body)
        self._found(findings(hits))
        denied = [hit.watch for hit in hits if hit.action == "deny"]
        if denied:
            return body, (_told(watch.detector.kind for watch in denied), denied[0].plugin)
        return consistent(body, self._restored(apply(body, hits, None)), self.removed), None

    def _found(self, found: list[Finding]) -> None:
        """Note what was found; the first thousand of a reply tell enough, and a stream may be long."""
        self._trail.findings += found[: max(_MOST_FINDINGS - len(self._trail.findings), 0)]

    def _search(self, body: Any) -> list[Hit]:
        if not self._active:
            return []
        surface = [t for t in texts(body) if not (t.is_key and t.value in REPLY_KEYS)]
        hits = [hit for text in surface for hit in self._hits(text)]
        # What two ways to join find alike is one finding.
        spread = dict.fromkeys(joined(self._policy, _parts(surface), self._active.chosen))
        return hits + [self._hit(text, span) for text, span in spread]

    def _hits(self, text: Text) -> Iterator[Hit]:
        for span in self._policy.find(text.value, self._active.chosen):
            if not self._is_mask(text.value[span.start : span.end]):
                yield self._hit(text, span)

    def _hit(self, text: Text, span: Span) -> Hit:
        action = _once(self._active.actions[span.detector])
        return Hit(self._policy.watches[span.detector], action, text, span.start, span.end)

    def headers(self, headers: Headers) -> Headers:
        """The headers that come back with the reply, as they may be shown.

        What is found is redacted, also where it is to be denied: no reply is refused for a header. One with a
        finding in its name is left out. Raises ``Refused`` when a detector fails.
        """
        if not self._active or all(map(_tells_nothing, headers)):
            return headers
        return self.attempt(partial(self._headers, headers))

    def _headers(self, headers: Headers) -> Headers:
        shown: Headers = []
        for name, value in headers:
            if _tells_nothing((name, value)):
                shown.append((name, value))
                continue
            named = (
                () if name in _KNOWN_HEADERS else self._hits(Text(("headers", name), name, True))
            )
            hits = [*named, *self._hits(Text(("headers", name), value))]
            hits = [hit._replace(action=_redacted(hit.action)) for hit in hits]
            self._found(findings(hits))
            edits = [
                Edit(hit.start, hit.end, hit.watch.detector.kind, mask=False)
                for hit in hits
                if hit.action == "redact"
            ]
            told = edited(value, edits, None)
            is_named = any(hit.text.is_key and hit.action == "redact" for hit in hits)
            if not is_named and (told == value or (told.isascii() and told.isprintable())):
                shown.append((name, told))
        return shown

    def _is_mask(self, text: str) -> bool:
        """What this call put there itself is put back, not found."""
        return self._vault is not None and text in self._vault

    def _restored(self, body: Any) -> Any:
        if self._vault is None:
            return body
        changes = {}
        for text in texts(body):
            if not text.is_key:
                value = self._vault.restore(text.value, inside_json=is_json(text.place))
                if value != text.value:
                    changes[text.place] = value
        return replace(body, changes) if changes else body

    def crosses(self, shown: str, text: str) -> bool:
        """Whether ``text``, behind what was shown already, would make something that must not be shown."""
        spans = self._policy.find(shown + text, self._active.chosen) if self._active else []
        return any(
            span.start < len(shown) < span.end and self._active.actions[span.detector] != "monitor"
            for span in spans
        )

    def field(self, place: Place) -> "Field":
        """A text of a stream, which comes in pieces."""
        stream = self._policy.stream(self._active.chosen) if self._active else None
        restorer = self._vault.restorer(inside_json=is_json(place)) if self._vault else None
        return Field(self, place_name(place), stream, restorer)

    def pieces(self, pieces: Iterable[Piece], place: str) -> str:
        """What of decided pieces may be shown; raises ``Withheld`` at the first that is denied."""
        shown: list[str] = []
        for piece in pieces:
            edits, denied = self._edits(piece, place)
            # What is redacted up to where the denied begins is not shown either.
            stop = min(
                (edit.start for edit in edits if denied and edit.end > denied[0]), default=None
            )
            text = (
                piece.text if denied is None else piece.text[: denied[0] if stop is None else stop]
            )
            shown.append(edited(text, [edit for edit in edits if edit.end <= len(text)], None))
            if denied is not None:
                raise Withheld("".join(shown), denied[1])
        return "".join(shown)

    def _edits(self, piece: Piece, place: str) -> tuple[list[Edit], tuple[int, Refusal] | None]:
        edits: list[Edit] = []
        for span in piece.spans:
            start, end = span.start - piece.start, span.end - piece.start
            found = piece.text[start:end]
            if self._policy.is_allowed(found) or self._is_mask(found):
                continue
            watch = self._policy.watches[span.detector]
            action = _once(self._active.actions[span.detector])
            kind = watch.detector.kind
            self._found([Finding(kind, place, watch.plugin, action)])
            if action == "deny":
                return edits, (start, (_told([kind]), watch.plugin))
            if action == "redact":
                edits.append(Edit(start, end, kind, mask=False))
        return edits, None


class Field:
    """One text of a stream: of one choice, in one place. What it gives is, for every cut, the same."""

    def __init__(
        self, review: Review, place: str, stream: Stream | None, restorer: Restorer | None
    ) -> None:
        self._review = review
        self._place = place
        self._stream = stream
        self._restorer = restorer

    def feed(self, text: str) -> str:
        """What may be shown now; raises ``Withheld``, and ``DetectorFault``."""
        if self._stream is None:
            return self._put_back(text)
        return self._shown(partial(self._stream.feed, text), last=False)

    def finish(self) -> str:
        """The rest, when nothing more comes; raises ``Withheld``."""
        if self._stream is None:
            return self._put_back("", last=True)
        return self._shown(self._stream.finish, last=True)

    def _shown(self, read: Callable[[], list[Piece]], *, last: bool) -> str:
        try:
            text = self._review.pieces(read(), self._place)
        except Withheld as withheld:
            raise Withheld(self._put_back(withheld.text, last=True), withheld.refusal) from None
        return self._put_back(text, last=last)

    def _put_back(self, text: str, *, last: bool = False) -> str:
        if self._restorer is None:
            return text
        return self._restorer.feed(text) + (self._restorer.finish() if last else "")


def _tells_nothing(header: tuple[str, str]) -> bool:
    name, value = header
    return name in _KNOWN_HEADERS and (value in _MEDIA or _AMOUNT.fullmatch(value) is not None)


def _parts(surface: Iterable[Text]) -> list[list[Text]]:
    """Parts of one content, which a reader would read one after the other; choices are never read so."""
    groups: dict[Place, list[Text]] = {}
    for text in surface:
        *place, at, last = text.place if len(text.place) > _SHORTEST_PART else ("", "", "")
        if not text.is_key and last == "text" and isinstance(at, int):
            groups.setdefault(tuple(place), []).append(text)
    return [group for group in groups.values() if len(group) > 1]


def _redacted(action: Action) -> Action:
    return "monitor" if action == "monitor" else "redact"


def _once(action: Action) -> Action:
    """A reply has nothing to be masked for later: what is to be masked there is redacted."""
    return "redact" if action == "mask" else action


def _told(kinds: Iterable[str]) -> Deny:
    return Deny(
        f"The reply was withheld by policy: it held {', '.join(sorted(set(kinds)))}.", status=400
    )
