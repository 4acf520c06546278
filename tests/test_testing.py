import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from proxy import Call, ConfigError, Deny, Detector, Prices, Record, Reply, Store, hookimpl
from proxy.testing import PluginFailed, harness


@dataclass(frozen=True)
class Word:
    """A guard."""

    word: str = "secret"

    @hookimpl
    def guard_request(self, call: Call) -> Deny | None:
        found = any(self.word in text.value for text in call.texts())
        return Deny("no", code="word") if found else None


@dataclass(frozen=True)
class Hook:
    """Implements one hook by what the test gives it."""

    act: Any

    @hookimpl
    def rewrite_request(self, call: Call) -> Any:
        return self.act(call)


def test_a_guards_test_is_one_line() -> None:
    assert harness(Word).completions(prompt="a secret").denied == Deny("no", code="word")
    assert harness(Word, word="x").chat(messages=[{"role": "user", "content": "x"}]).denied
    assert harness(Word).call("embeddings", input=["a", "secret"]).denied
    assert harness(Word).completions().denied is None


def test_a_result_shows_what_would_be_sent_answered_and_logged() -> None:
    result = harness(Word).respond({"choices": []}, user="u")
    assert result.body == {"model": "test-model", "prompt": "Hello", "user": "u"}
    assert result.reply == {"choices": []}
    assert result.headers["x-outgate-id"] == result.record.id
    assert (result.record.outcome, result.record.principal) == ("ok", "tester")
    assert [v.verdict for v in result.record.verdicts if v.plugin == "Word"] == ["pass"]
    denied = harness(Word).completions(prompt="secret")
    assert (denied.body, denied.reply, denied.record.denied_by) == (None, None, "Word")


def test_a_body_that_the_intake_refuses_is_denied() -> None:
    denied = harness(Word).completions(prompt=7).denied
    assert denied is not None
    assert (denied.status, denied.code) == (400, "invalid_prompt")


def test_a_plugin_may_be_a_module_or_a_name() -> None:
    module = types.ModuleType("my_guard")

    @hookimpl
    def guard_request() -> Deny:
        return Deny("never")

    vars(module)["guard_request"] = guard_request
    assert harness(module).completions().record.denied_by == "my_guard"
    loaded = harness("regex_guard", patterns={"k": "secret"})
    assert loaded.completions(prompt="secret").record.denied_by == "regex_guard"
    assert harness("tests.test_testing:Word").completions(prompt="secret").denied


@pytest.mark.parametrize(
    ("plugin", "options", "message"),
    [
        (Word, {"wrod": "x"}, "Did you mean 'word'"),
        (Word, {"word": 1}, "word"),
        ("regex_gaurd", {}, "Did you mean 'regex_guard'"),
        (types.ModuleType("empty"), {}, "implements no hook"),
        (type("Loose", (), {}), {}, "must be frozen"),
    ],
)
def test_what_would_stop_the_start_fails_the_test(
    plugin: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        harness(plugin, **options)


def test_circumstances_can_be_given() -> None:
    loaded = harness(Word).given(
        caller="alice", groups=("eng",), headers={"X-Trace": "1"}, mode="monitor"
    )
    result = loaded.completions(prompt="secret")
    assert result.denied is None
    assert (result.record.principal, result.record.groups) == ("alice", ("eng",))
    assert [v.verdict for v in result.record.verdicts if v.plugin == "Word"] == ["monitor:deny"]
    elsewhere = harness(Word).given(when={"principals": ["bob"]})
    assert elsewhere.completions(prompt="secret").denied is None
    with pytest.raises(ConfigError, match="Did you mean 'mode'"):
        harness(Word).given(mod="monitor")


def test_the_policy_can_be_given() -> None:
    loaded = harness("regex_guard", patterns={"k": "[0-9]{1,9}"}).given(
        config={"policy": {"request": {"k": "redact"}, "response": {"k": "deny"}}}
    )
    result = loaded.respond({"choices": [{"text": "42"}]}, prompt="a 7")
    assert result.body["prompt"] == "a [K]"
    assert result.denied is not None
    assert result.reply is None


@pytest.mark.parametrize(
    "act",
    [
        lambda call: call.body.update(x=1),
        lambda call: call.body["stop"].append("x"),
        vars,
        lambda _: 1 / 0,
        lambda _: "a text",
        lambda call: call.replace(id="other"),
        lambda call: call.with_body(prompt=7),
    ],
)
@pytest.mark.parametrize("on_error", ["deny", "allow"])
def test_a_plugin_that_fails_or_edits_its_input_fails_the_test(act: Any, on_error: str) -> None:
    with pytest.raises(PluginFailed):
        harness(Hook, act=act).given(on_error=on_error).completions(stop=["y"])


def test_a_plugin_remembers_from_call_to_call() -> None:
    @dataclass(frozen=True)
    class Twice:
        _seen: list[str] = field(init=False, default_factory=list)

        @hookimpl
        def guard_request(self, call: Call) -> Deny | None:
            self._seen.append(call.id)
            return Deny("enough") if len(self._seen) > 2 else None

    loaded = harness(Twice)
    assert [bool(loaded.completions().denied) for _ in range(3)] == [False, False, True]
    assert harness(Twice).completions().denied is None


def test_a_failing_detector_fails_the_test() -> None:
    @dataclass(frozen=True)
    class Broken:
        @hookimpl
        def detectors(self) -> Iterator[Detector]:
            yield Detector(kind="broken", window=9, find=lambda _: 1 / 0)  # type: ignore[arg-type, return-value]

    with pytest.raises(PluginFailed):
        harness(Broken).completions()


def test_a_slow_plugin_fails_the_test() -> None:
    loaded = harness(Word).given(deadline=1e-9)
    with pytest.raises(PluginFailed, match="deadline"):
        loaded.completions()


def test_a_failing_sink_fails_the_test() -> None:
    @dataclass(frozen=True)
    class Sink:
        @hookimpl
        def log_exchange(self, record: Record) -> None:
            raise OSError(record.id)

    with pytest.raises(PluginFailed, match="log_exchange failed"):
        harness(Sink).completions()


def test_a_choice_and_a_reply_can_be_refused() -> None:
    @dataclass(frozen=True)
    class Chooser:
        name: str

        @hookimpl
        def choose_upstream(self) -> str | Deny:
            return Deny("nowhere") if self.name == "none" else self.name

        @hookimpl
        def rewrite_response(self, reply: Reply) -> Reply | Deny:
            return reply.with_body(seen=True) if reply.body.get("choices") else Deny("empty")

    assert harness(Chooser, name="main").completions().upstream == "main"
    refused = harness(Chooser, name="none").completions()
    assert refused.denied == Deny("nowhere")
    assert refused.body is None
    assert harness(Chooser, name="a").respond({"choices": [1]}).reply["seen"] is True
    empty = harness(Chooser, name="a").respond({"choices": []})
    assert (empty.denied, empty.reply) == (Deny("empty"), None)
    assert empty.body is not None


@dataclass(frozen=True)
class Purse:
    """A plugin that keeps something in the store, and looks at prices."""

    store: Store
    prices: Prices

    @hookimpl
    def admit(self, call: Call) -> Deny | None:
        self.store.start()
        with self.store.reading() as connection:
            assert connection is not None
        return (
            None
            if self.prices.price(call.model or "", datetime.now(UTC).date())
            else Deny("No price.")
        )


def test_a_plugin_is_given_a_store_of_its_own_and_the_prices_of_the_configuration() -> None:
    assert harness(Purse).completions().denied
    prices = [{"models": ["test-*"], "input": 1}]
    assert harness(Purse).given(config={"prices": prices}).completions().denied is None


@dataclass(frozen=True)
class Echo:
    """Answers what it was shown before."""

    seen: list[Any] = field(default_factory=list)
    fails: bool = False

    @hookimpl
    def answer_request(self) -> Reply | None:
        return Reply(status=200, body=self.seen[0], headers={"age": "3"}) if self.seen else None

    @hookimpl
    def observe_response(self, reply: Reply) -> None:
        if self.fails:
            raise OSError("no")
        self.seen.append(reply.body)


def test_a_plugins_own_answer_is_shown_as_the_caller_gets_it() -> None:
    echo = harness(Echo)
    body = {"choices": [{"index": 0, "text": "a", "finish_reason": "stop"}]}
    first, second = echo.respond(body), echo.respond({"choices": []})
    assert (first.reply, first.record.answered_by) == (body, None)
    assert (second.reply, second.record.answered_by, second.body) == (body, "Echo", None)
    assert second.headers["age"] == "3"
    assert [event["choices"][0]["text"] for event in echo.completions(stream=True).events] == [
        "a",
        "",
    ]
    with pytest.raises(PluginFailed, match="observe_response raised OSError"):
        harness(Echo, fails=True).respond(body)
