"""What a plugin must keep, whatever it is for: looked at unasked, on a copy of it that no test sees."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

from msgspec import Struct

from proxy.detect.detector import Detector
from proxy.model import Endpoint
from proxy.parts import Parts
from proxy.policy import Policy, Watch
from proxy.rules import PolicyTable
from proxy.testing.rehearsal import Answering, rehearse
from proxy.testing.replies import cuttings, streamed, text_chunks, text_reply, whole
from proxy.testing.results import PluginFailed, Result
from proxy.testing.surfaces import surfaces

#: Hooks that only look at a call; the others keep something, and are not called unasked.
LOOKING: Final = ("rewrite_request", "guard_request", "rewrite_response")
_LONGEST_UNASKED: Final = 1_000
_LONGEST_SHOWN: Final = 60
_MOST_KNOWN: Final = 4_096
#: Calls that ask nothing, so that only their reply is looked at.
_SILENT: Final[Mapping[str, Any]] = {"completions": {"prompt": ""}, "chat": {"messages": []}}
#: What was looked at in this process: the sentence of a failure, or None.
_known: dict[Any, tuple[str | None, Any]] = {}


class Row(Struct, frozen=True):
    """One surface: what became of the call there, and how long it took, in seconds."""

    surface: str
    verdict: str
    seconds: float


class Report(Struct, frozen=True):
    """How a plugin did on every surface; the times are there to be looked at."""

    rows: tuple[Row, ...]

    @property
    def seconds(self) -> float:
        """All surfaces together."""
        return sum(row.seconds for row in self.rows)

    def __str__(self) -> str:
        width = max((len(row.surface) for row in self.rows), default=0)
        lines = [
            f"{row.surface:{width}}  {row.verdict:6}  {row.seconds * 1000:9.3f} ms"
            for row in self.rows
        ]
        return "\n".join([*lines, f"{'together':{width}}          {self.seconds * 1000:9.3f} ms"])


#: Makes one call of a plugin; raises ``PluginFailed``.
Calling: TypeAlias = Callable[[Endpoint, Answering | None, Any], Result]


def walked(call: Calling, *, replies: bool) -> Report:
    """Send every surface through a plugin: it denies or lets pass, or raises ``PluginFailed`` for the first fault."""
    rows = []
    for surface in surfaces(replies=replies):
        try:
            result = call(surface.endpoint, surface.answering, surface.params)
        except PluginFailed as failed:
            raise PluginFailed(
                f"on {surface.name}: {failed}\nCalls of this form come too. Read texts with call.texts(), ask"
                " body.get(…) for what may be absent, and let pass what the plugin is not about, or limit its hook"
                " with @only(…). (given(checks=False) leaves these checks out.)"
            ) from None
        rows.append(Row(surface.name, "denied" if result.denied else "passed", result.seconds))
    return Report(tuple(rows))


def once(key: Any, check: Callable[[], object], about: Any) -> None:
    """Do ``check`` the first time that ``key`` is seen; what it raised then it raises every time.

    ``about`` is kept with it: what a key tells of an object by its address must not become another's.
    """
    if key not in _known:
        if len(_known) > _MOST_KNOWN:
            _known.clear()
        try:
            check()
            _known[key] = (None, about)
        except PluginFailed as failed:
            _known[key] = (str(failed), about)
    failure, _ = _known[key]
    if failure is not None:
        raise PluginFailed(failure)


def short(texts: Iterable[str]) -> list[str]:
    """Those of some texts that are tried in every cut unasked: one by one, a long one takes its time."""
    return [text for text in texts if 0 < len(text) <= _LONGEST_UNASKED]


def every_cut(
    parts: Parts, text: str, endpoint: Endpoint = "completions", own: list[str] | None = None
) -> str:
    """What the caller is shown of ``text`` as a reply: the same whole and in all pieces, or ``PluginFailed``.

    ``parts`` have no hooks, so that detectors and policy alone decide. ``own`` are further pieces to try.
    """
    pieces = _shown(parts, endpoint, _saying(endpoint, [text]))
    entire = _shown(parts, endpoint, lambda _: whole(text_reply(endpoint, text)))
    again = _shown(parts, endpoint, lambda _: whole(text_reply(endpoint, text)))
    if entire[0] != again[0]:
        raise PluginFailed(
            f"the same text gives {_brief(entire[1])} and then {_brief(again[1])}: a detector looks at the text"
            " alone, and keeps nothing from one text to the next."
        )
    for watch in parts.policy.watches:
        _look_outside(watch.detector, text)
    _compare("one piece", entire, pieces)
    for name, cut in [*cuttings(text), *([("the pieces of the test", own)] if own else [])]:
        _compare(name, entire, _shown(parts, endpoint, _saying(endpoint, cut)))
    return entire[1]


def _look_outside(detector: Detector, text: str) -> None:
    """Compare what ``find()`` makes of the whole text with what it made of windows, which is what counts."""
    if detector.find is None or detector.fold:
        return
    alone = Policy(PolicyTable(), [Watch(detector, detector.kind)])
    windows = {
        at for span in alone.find(text, frozenset({0})) for at in range(span.start, span.end)
    }
    spans = [(start, end) for start, end in detector.find(text)]
    check = detector.check or bool
    whole = {at for start, end in spans if check(text[start:end]) for at in range(start, end)}
    if windows != whole:
        raise PluginFailed(
            f"find() of {detector.kind!r} finds {len(whole)} characters in {_brief(text)} as a whole, and"
            f" {len(windows)} in windows of {detector.window}, which is how texts are read. Make window as long as"
            " the longest finding with all that decides about it, and look at nothing but the text that is given."
        )


def _saying(endpoint: Endpoint, pieces: list[str]) -> Answering:
    answer = streamed(text_chunks(endpoint, pieces))
    return lambda _: answer


def _shown(parts: Parts, endpoint: Endpoint, answering: Answering) -> tuple[Any, str]:
    """(what must not depend on the cut, the text): of a reply that is denied, only that it is."""
    result = rehearse(parts, endpoint, _SILENT[endpoint], {}, answering)
    if result.record.code == "plugin_failed":
        faults = [v.detail for v in result.record.verdicts if v.verdict.endswith("error")]
        raise PluginFailed(
            f"a detector failed on a reply: {'; '.join(map(str, faults))} (the log says why)"
        )
    return ("denied" if result.denied else result.shown), result.shown


def _compare(name: str, entire: tuple[Any, str], pieces: tuple[Any, str]) -> None:
    if entire[0] != pieces[0]:
        raise PluginFailed(
            f"as a whole the text becomes {_brief(entire[0])}, in {name} {_brief(pieces[0])}: what a detector finds"
            " must not depend on the cut. Let its functions look at nothing but the text they are given."
        )


def _brief(text: str) -> str:
    return repr(text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…")
