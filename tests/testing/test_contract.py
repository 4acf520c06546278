"""What the harness looks at unasked, and the sentence that it has for each broken promise."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from proxy import Call, Deny, Detector, Record, Reply, Store, hookimpl, only
from proxy.testing import PluginFailed, harness

SEEN: Final[list[Any]] = []


@dataclass(frozen=True)
class Guard:
    act: Any

    @hookimpl
    def guard_request(self, call: Call) -> Any:
        return self.act(call)


@dataclass(frozen=True)
class Rewriter:
    act: Any

    @hookimpl
    def rewrite_request(self, call: Call) -> Any:
        return self.act(call)


@dataclass(frozen=True)
class Responder:
    act: Any

    @hookimpl
    def rewrite_response(self, reply: Reply) -> Any:
        return self.act(reply)


@dataclass(frozen=True)
class Finder:
    act: Any
    window: int = 16

    @hookimpl
    def detectors(self) -> Iterator[Detector]:
        yield Detector(kind="thing", find=self.act, window=self.window)


def asking(look: Any) -> Any:
    """A hook that looks, and has nothing to say."""

    def act(value: Any) -> None:
        look(value)

    return act


def failure(plugin: Any, act: Any, **params: Any) -> str:
    """What the author is told after a call that itself is fine."""
    with pytest.raises(PluginFailed) as raised:
        harness(plugin, act=act).completions(**params)
    return str(raised.value)


@pytest.mark.parametrize(
    ("act", "surface", "error"),
    [
        (lambda call: call.body["prompt"], "a chat with a message", "KeyError: 'prompt'"),
        (
            lambda call: call.body.get("prompt", "").lower(),
            "a completion with a list of prompts",
            "AttributeError: 'FrozenList' object has no attribute 'lower'",
        ),
        (
            lambda call: [m["content"].lower() for m in call.body.get("messages", ())],
            "a chat with a message without content",
            "KeyError: 'content'",
        ),
        (
            lambda call: [m.get("content").lower() for m in call.body.get("messages", ())],
            "a chat with a message without content",
            "AttributeError: 'NoneType' object has no attribute 'lower'",
        ),
        (
            lambda call: [text.value.encode("utf-16")[2] for text in call.texts()],
            "a completion with an empty prompt",
            "IndexError",
        ),
        (
            lambda call: [t.value.encode("latin-1") for t in call.texts()],
            "unicode",
            "UnicodeEncodeError",
        ),
        (lambda call: call.body["model"], "the list of models", "KeyError: 'model'"),
    ],
)
def test_a_guard_that_knows_one_form_of_calls_only_is_told_of_the_others(
    act: Any, surface: str, error: str
) -> None:
    told = failure(Guard, asking(act))
    assert surface in told.splitlines()[0]
    assert f"guard_request raised {error}" in told
    assert "Read texts with call.texts()" in told


def test_a_guard_that_takes_long_texts_badly_is_told() -> None:
    assert "of 100 kB" in failure(Guard, asking(lambda call: 1 / (len(str(call.body)) < 50_000)))


def test_a_hook_that_is_limited_is_asked_about_its_endpoints_only() -> None:
    @dataclass(frozen=True)
    class Limited:
        @hookimpl
        @only("completions")
        def guard_request(self, call: Call) -> Deny | None:
            return Deny("no") if not call.body["prompt"] else None

    assert not harness(Limited).completions().denied
    assert harness(Limited).completions(prompt="").denied


@pytest.mark.parametrize(
    ("act", "instead"),
    [
        (lambda call: call.body.update(x=1), "return call.with_body(…) or call.note(…) instead"),
        (lambda call: dict.update(call.body, x=1), "return call.with_body(…)"),
        (lambda call: setattr(call, "model", "x"), "return call.with_body(…)"),
        (lambda call: setattr(call.principal, "name", "x"), "return call.with_body(…)"),
    ],
)
def test_a_plugin_that_edits_its_input_is_told_what_to_return(act: Any, instead: str) -> None:
    told = failure(Rewriter, act)
    assert "rewrite_request edits what it was given, which others see too" in told
    assert instead in told


def test_a_sink_that_edits_a_record_is_told_so() -> None:
    @dataclass(frozen=True)
    class Sink:
        @hookimpl
        def log_exchange(self, record: Record) -> None:
            record.notes["mine"] = 1  # type: ignore[index]

    with pytest.raises(PluginFailed, match=r"log_exchange edits .* take a copy of what you change"):
        harness(Sink).completions()


def test_a_body_that_cannot_be_sent_on_some_surface_is_told() -> None:
    told = failure(Rewriter, lambda call: call.with_body(prompt="x", messages="x"))
    assert "on a chat with a message" in told


@pytest.mark.parametrize(
    ("act", "surface"),
    [
        (lambda reply: reply.body["choices"], "embeddings (as reply)"),
        (lambda reply: reply.body.get("choices", [0])[0], "without a choice"),
        (
            lambda reply: [
                choice["message"]["content"].strip()
                for choice in reply.body.get("choices", ())
                if "message" in choice
            ],
            "a reply that calls a tool",
        ),
        (lambda reply: reply.body["object"], "an error 400"),
    ],
)
def test_a_rewriter_of_replies_is_shown_every_form_of_them(act: Any, surface: str) -> None:
    assert surface in failure(Responder, asking(act)).splitlines()[0]


def test_a_plugin_that_bears_everything_hears_nothing() -> None:
    assert harness(Guard, act=lambda _: None).completions().left["prompt"] == "Hello"
    assert harness(Rewriter, act=lambda call: call.note(seen=True)).completions().record.notes
    assert harness(Responder, act=lambda r: r.with_body(x=1)).respond({"choices": []}).reply["x"]


def test_what_keeps_something_is_not_called_unasked_but_for_a_report() -> None:
    @dataclass(frozen=True)
    class Counts:
        name: str

        @hookimpl
        def guard_request(self) -> None: ...

        @hookimpl
        def admit(self, call: Call) -> None:
            SEEN.append((self.name, call.endpoint))

        @hookimpl
        def log_exchange(self, record: Record) -> None:
            SEEN.append((self.name, record.id))

    harness(Counts, name="a").completions()
    assert len([item for item in SEEN if item[0] == "a"]) == 2
    harness(Counts, name="b").report()
    assert len([item for item in SEEN if item[0] == "b"]) > 60


def test_what_is_looked_at_unasked_is_another_instance() -> None:
    @dataclass(frozen=True)
    class Once:
        _seen: list[str] = field(init=False, default_factory=list)

        @hookimpl
        def guard_request(self, call: Call) -> Deny | None:
            self._seen.append(call.id)
            return Deny("again") if len(self._seen) > 1 else None

    once = harness(Once)
    assert not once.completions().denied
    assert once.completions().denied


def test_checks_can_be_left_out() -> None:
    plain = harness(Guard, act=asking(lambda call: call.body["prompt"]))
    assert not plain.given(checks=False).completions().denied
    with pytest.raises(PluginFailed):
        plain.completions()
    with pytest.raises(PluginFailed):
        plain.given(checks=False).report()


def test_a_plugin_with_a_store_has_one_of_its_own_for_the_checks() -> None:
    @dataclass(frozen=True)
    class Keeps:
        store: Store

        @hookimpl
        def guard_request(self) -> None:
            with self.store.reading() as connection:
                assert connection is not None

    assert harness(Keeps).report().rows


# -- detectors -----------------------------------------------------------------------------------


def words(text: str) -> Iterator[tuple[int, int]]:
    at = text.find("SECRET")
    while at >= 0:
        yield at, at + 6
        at = text.find("SECRET", at + 1)


def test_a_detector_that_looks_at_its_text_alone_is_fine_in_every_cut() -> None:
    assert harness(Finder, act=words).completions(prompt="a SECRET, SECRETS").denied
    assert harness(Finder, act=words).redact("a SECRET, SECRETS") == "a [THING], [THING]S"


def test_a_detector_whose_window_is_too_short_is_told_so() -> None:
    def lines(text: str) -> Iterator[tuple[int, int]]:
        start = text.find("BEGIN")
        if start >= 0 and (end := text.find("END", start)) > 0:
            yield start, end + 3

    told = failure(
        Finder, lines, prompt="BEGIN of a long block that goes on and on to its END here"
    )
    assert "Make window as long as the longest finding" in told
    assert "in windows of 16, which is how texts are read" in told


def test_a_detector_that_wants_the_whole_text_is_told_that_it_gets_windows() -> None:
    def only_long(text: str) -> list[tuple[int, int]]:
        return [(0, 3)] if len(text) > 100 else []

    assert "nothing but the text that is given" in failure(Finder, only_long, prompt="abc" * 60)


def test_a_detector_that_remembers_is_told_so() -> None:
    class Odd:
        times = 0

        def find(self, text: str) -> list[tuple[int, int]]:
            self.times += "SECRET" in text
            return list(words(text)) if self.times % 2 else []

    with pytest.raises(PluginFailed, match="keeps nothing from one text to the next"):
        harness(Finder, act=Odd().find).redact("a SECRET")


def test_a_detector_that_finds_otherwise_in_pieces_is_told_so() -> None:
    class Late:
        times = 0

        def find(self, text: str) -> list[tuple[int, int]]:
            self.times += "SECRET" in text
            return list(words(text)) if self.times > 1 else []

    with pytest.raises(PluginFailed, match="must not depend on the cut") as raised:
        harness(Finder, act=Late().find).redact("a SECRET")
    assert "as a whole the text becomes 'a [THING]', in one piece 'a SECRET'" in str(raised.value)


def test_a_detector_that_raises_on_some_text_is_told_on_which() -> None:
    told = failure(Finder, lambda text: [(0, 0) for _ in text.encode("ascii")])
    assert "with unicode" in told
    assert "thing: raised UnicodeEncodeError" in told


def test_what_is_found_is_the_same_in_all_runs() -> None:
    texts = ["".join(random.Random(n).choices("SECRT ", k=40)) for n in range(3)]
    plugin = harness(Finder, act=words)
    assert [plugin.redact(text) for text in texts] == [plugin.redact(text) for text in texts]


# -- the report ----------------------------------------------------------------------------------


def test_a_report_names_every_surface_with_its_verdict_and_time() -> None:
    report = harness(
        Guard, act=lambda call: Deny("no") if call.endpoint == "chat" else None
    ).report()
    verdicts = {row.surface: row.verdict for row in report.rows}
    assert verdicts["a chat with a tool call"] == "denied"
    assert verdicts["a completion with a list of prompts"] == "passed"
    assert {row.surface.split()[0] for row in report.rows} >= {"a", "embeddings", "the", "one"}
    lines = str(report).splitlines()
    assert lines[-1].startswith("together")
    assert all(line.endswith(" ms") for line in lines)
    assert report.seconds > 0


def test_a_plugin_that_looks_at_no_call_has_an_empty_report() -> None:
    assert str(harness("openai_compatible").report()).startswith("together")
