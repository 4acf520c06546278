"""Detectors find, the policy decides; a finding is never lost, and a broken detector denies."""

import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from proxy.chain import Scope, Trail
from proxy.errors import ConfigError
from proxy.frozen import FrozenDict, freeze
from proxy.model import Call, Deny, Principal
from proxy.patterns import Globs
from proxy.policy import Detector, PolicyTable, Rules, Watch, judge, redact

TICKET = Detector.regex("ticket", r"T-[0-9]+")


def call(**body: Any) -> Call:
    full = {"model": "m", "prompt": "Hello", **body}
    return Call(
        id="1", endpoint="completions", body=freeze(full), principal=Principal("a"), model="m"
    )


def judged(
    body: dict[str, Any], *watches: Watch, side: Any = "request", **table: Any
) -> tuple[Any, Deny | None, Trail]:
    trail = Trail()
    made = call(**body)
    default: Any = "deny" if side == "request" else "allow"
    result, refusal = judge(made, made.body, watches, Rules(side, table, default), trail)
    return result, refusal[0] if refusal else None, trail


def watch(detector: Detector = TICKET, **settings: Any) -> Watch:
    return Watch(detector, "p", **settings)


def finds(find: Callable[[str], Any], kind: str = "ticket") -> Watch:
    return watch(Detector(kind, find))


def test_a_kind_that_no_rule_names_is_denied_in_requests_and_allowed_in_replies() -> None:
    _, deny, trail = judged({"prompt": "see T-12"}, watch())
    assert deny is not None
    assert deny.message == "Refused by policy: ticket in prompt. Remove it and send the call again."
    assert (deny.param, deny.status) == ("prompt", 400)
    assert [(f.kind, f.place, f.plugin, f.action) for f in trail.findings] == [
        ("ticket", "prompt", "p", "deny")
    ]
    body, deny, trail = judged({"prompt": "see T-12"}, watch(), side="response")
    assert (deny, trail.findings, body["prompt"]) == (None, [], "see T-12")


@pytest.mark.parametrize(
    ("action", "prompt", "found"),
    [("allow", "a T-1 b", 0), ("monitor", "a T-1 b", 1), ("redact", "a [TICKET] b", 1)],
)
def test_an_action_does_what_it_says(action: str, prompt: str, found: int) -> None:
    body, deny, trail = judged({"prompt": "a T-1 b"}, watch(), ticket=action)
    assert (body["prompt"], deny, len(trail.findings)) == (prompt, None, found)


def test_a_rule_for_a_kind_outranks_the_rule_for_the_rest() -> None:
    rules = Rules("request", {"ticket": "allow", "*": "redact"}, "deny")
    assert (rules.action("ticket"), rules.action("other")) == ("allow", "redact")
    assert PolicyTable().request == {}


def test_a_reply_is_refused_without_saying_where_it_was_found() -> None:
    _, deny, _ = judged({"prompt": "T-1"}, watch(), side="response", ticket="deny")
    assert deny is not None
    assert deny.message == "The reply was withheld by policy: it held ticket."


def test_a_refusal_names_a_few_places_and_repeats_nothing_that_was_found() -> None:
    _, deny, _ = judged({"prompt": ["T-991", "T-992", "T-993", "T-994"]}, watch())
    assert deny is not None
    assert "prompt[0], prompt[1], prompt[2] and elsewhere" in deny.message
    assert "T-99" not in deny.message


def test_a_key_cannot_be_redacted_so_it_is_denied() -> None:
    _, deny, _ = judged({"metadata": {"T-1": "x"}}, watch(), ticket="redact")
    assert deny is not None


def test_the_model_that_is_asked_for_cannot_be_redacted_so_it_is_denied() -> None:
    assert judged({"model": "T-1"}, watch(), ticket="redact")[1] is not None
    body, deny, _ = judged({"model": "T-1"}, watch(), side="response", ticket="redact")
    assert (deny, body["model"]) == (None, "[TICKET]")


def test_the_model_in_a_path_is_scanned_like_a_body() -> None:
    asked = Call(
        id="1", endpoint="model", body=FrozenDict(), principal=Principal("a"), model="T-12"
    )
    _, refusal = judge(asked, asked.body, [watch()], Rules("request", {}, "deny"), Trail())
    assert refusal is not None
    assert refusal[0].param == "model"


@pytest.mark.parametrize(
    "span",
    [(-5, -1), (0, 99), (3, 1), ("0", "1"), (0.0, 2.0), (True, 2), (None, 1), 7, (1, 2, 3)],
)
@pytest.mark.parametrize("action", ["redact", "deny", "monitor"])
def test_a_span_that_is_not_within_the_text_denies(span: Any, action: str) -> None:
    _, deny, trail = judged({}, finds(lambda _: [span]), ticket=action)
    assert deny is not None
    assert deny.code == "plugin_failed"
    assert trail.verdicts[0].verdict == "error"
    assert (trail.verdicts[0].hook, trail.verdicts[0].plugin) == ("detectors", "p")


def exits(_: str) -> Iterable[tuple[int, int]]:
    raise SystemExit(0)


def broken(_: str) -> Iterable[tuple[int, int]]:
    raise ValueError("no")


@pytest.mark.parametrize("find", [broken, exits, lambda _: None, lambda _: 5])
def test_a_detector_that_fails_denies_unless_the_operator_allows_it(find: Any) -> None:
    assert judged({}, finds(find), ticket="monitor")[1] is not None
    for settings in ({"monitor": True}, {"allow_on_error": True}):
        _, deny, trail = judged({}, watch(Detector("ticket", find), **settings))
        assert deny is None
        assert trail.verdicts[0].verdict.endswith("error")


def slow(text: str) -> Iterable[tuple[int, int]]:
    time.sleep(0.005)
    return [(0, len(text))] if text == "secret" else []


def test_a_detector_past_its_deadline_denies_and_what_it_found_counts_anyway() -> None:
    late = Detector("ticket", slow)
    _, deny, _ = judged({}, watch(late, deadline=0.001))
    assert deny is not None
    assert deny.code == "plugin_failed"
    _, deny, _ = judged({}, watch(late, deadline=0.001, allow_on_error=True))
    assert deny is None
    _, deny, _ = judged({"prompt": "secret"}, watch(late, deadline=0.001, allow_on_error=True))
    assert deny is not None
    assert deny.code == "content_policy_violation"


def test_a_monitored_detector_only_records_whatever_the_policy_says() -> None:
    body, deny, trail = judged({"prompt": "T-1"}, watch(monitor=True), ticket="redact")
    assert (deny, body["prompt"]) == (None, "T-1")
    assert trail.findings[0].action == "monitor"


def test_one_monitored_detector_does_not_silence_another_of_its_kind() -> None:
    _, deny, _ = judged({"prompt": "T-1"}, watch(monitor=True), watch())
    assert deny is not None


def test_a_detector_is_asked_only_for_calls_within_its_scope() -> None:
    other = Scope(principals=Globs(["b"]))
    assert judged({"prompt": "T-1"}, watch(scope=other))[1] is None
    assert judged({"prompt": "T-1"}, watch(scope=Scope(principals=Globs(["a"]))))[1] is not None


def test_an_empty_match_is_no_finding() -> None:
    assert judged({}, finds(lambda _: [(0, 0), (1, 1)]))[1] is None


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([], "abcdefgh"),
        ([(0, 8, "k")], "[K]"),
        ([(0, 2, "a"), (2, 4, "b")], "[A][B]efgh"),
        ([(1, 5, "a"), (3, 7, "b")], "a[A]h"),
        ([(3, 7, "b"), (1, 5, "a")], "a[A]h"),
        ([(1, 7, "a"), (3, 5, "b")], "a[A]h"),
        ([(7, 8, "z"), (0, 1, "y")], "[Y]bcdefg[Z]"),
    ],
)
def test_redaction_replaces_every_span_and_merges_those_that_overlap(
    spans: list[tuple[int, int, str]], expected: str
) -> None:
    assert redact("abcdefgh", spans) == expected


def test_several_kinds_are_redacted_in_one_text() -> None:
    word = watch(Detector.regex("word", "secret[a-z]*"))
    body, _, _ = judged({"prompt": "secretT-1 and T-2"}, watch(), word, **{"*": "redact"})
    assert body["prompt"] == "[WORD][TICKET] and [TICKET]"


def test_a_pattern_that_is_not_linear_is_refused() -> None:
    with pytest.raises(ConfigError):
        Detector.regex("x", r"(?=a)")


def test_what_was_found_in_a_key_is_not_named_on_the_way_to_it() -> None:
    body = {"metadata": {"T-99": {"note": "T-98"}}}
    _, deny, trail = judged(body, watch())
    assert deny is not None
    assert "T-9" not in f"{deny}{trail.findings}"
    assert [found.place for found in trail.findings] == ["metadata.{key}", "metadata.{key}.note"]


@pytest.mark.parametrize("action", ["deny", "redact"])
def test_a_header_that_is_sent_on_is_scanned_and_never_edited(action: Any) -> None:
    made = call().replace(headers={"openai-project": "T-1", "accept": "T-2"})
    rules = Rules("request", {"ticket": action}, "deny", headers=("openai-project",))
    trail = Trail()
    _, refusal = judge(made, made.body, [watch()], rules, trail)
    assert refusal is not None
    assert [found.place for found in trail.findings] == ["headers.openai-project"]
