"""Detectors find, the policy decides; a finding is never lost, and a broken detector denies."""

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

import pytest

from proxy.detect.detector import Detector
from proxy.errors import ConfigError, Unavailable
from proxy.model import Deny
from proxy.patterns import Globs
from proxy.policy import Policy, Refused, Watch, kinds_and_groups
from proxy.rules import Allowed, PolicyTable, rule_for
from proxy.steps import Scope, Trail
from tests.policing import TICKET, call, screened, watch

_BORNE: Final[list[dict[str, Any]]] = [{"monitor": True}, {"allow_on_error": True}]


def judged(body: dict[str, Any], *watches: Watch, **table: Any) -> tuple[Any, Deny | None, Trail]:
    """The body, the refusal and the trail of a request."""
    result, trail = screened(body, *watches, **table)
    return result.body, result.refusal[0] if result.refusal else None, trail


def finds(find: Callable[[str], Any], *, kind: str = "ticket", **settings: Any) -> Watch:
    return watch(Detector(kind=kind, find=find, window=64), **settings)


def checks(check: Callable[[str], Any], **settings: Any) -> Watch:
    return watch(Detector.regex("ticket", "[A-Za-z]{1,20}", check=check), **settings)


def test_a_kind_that_no_rule_names_is_denied_in_requests_and_allowed_in_replies() -> None:
    _, deny, trail = judged({"prompt": "see T-12"}, watch())
    assert deny is not None
    assert deny.message == "Refused by policy: ticket in prompt. Remove it and send the call again."
    assert (deny.param, deny.status) == ("prompt", 400)
    assert [(f.kind, f.place, f.plugin, f.action) for f in trail.findings] == [
        ("ticket", "prompt", "p", "deny")
    ]
    assert not Policy(PolicyTable(), [watch()]).active(call(), "response")


@pytest.mark.parametrize(
    ("action", "prompt", "found"),
    [("allow", "a T-1 b", 0), ("monitor", "a T-1 b", 1), ("redact", "a [TICKET] b", 1)],
)
def test_an_action_does_what_it_says(action: str, prompt: str, found: int) -> None:
    body, deny, trail = judged({"prompt": "a T-1 b"}, watch(), request={"ticket": action})
    assert (body["prompt"], deny, len(trail.findings)) == (prompt, None, found)


@pytest.mark.parametrize(
    ("rules", "action"),
    [
        ({}, "deny"),
        ({"*": "redact"}, "redact"),
        ({"*": "redact", "refs": "mask"}, "mask"),
        ({"*": "redact", "refs": "mask", "refs.tickets": "monitor"}, "monitor"),
        ({"*": "redact", "refs": "mask", "refs.tickets": "monitor", "ticket": "allow"}, "allow"),
        ({"other": "allow"}, "deny"),
    ],
)
def test_the_kind_outranks_its_groups_and_the_narrower_group_the_wider(
    rules: Any, action: str
) -> None:
    assert rule_for([rules], TICKET, "deny") == action
    assert kinds_and_groups([watch()]) == {"ticket", "refs", "refs.tickets"}


def test_a_detector_that_is_not_sure_enough_is_not_asked() -> None:
    unsure = watch(Detector.regex("ticket", r"T-[0-9]", confidence=0.4))
    assert judged({"prompt": "T-1"}, unsure, confidence=0.5)[1] is None
    assert judged({"prompt": "T-1"}, unsure, confidence=0.4)[1] is not None


@pytest.mark.parametrize(
    "allowed",
    [
        Allowed(values=("T-12",)),
        Allowed(patterns=("T-1[0-9]",)),
        Allowed(sha256=(hashlib.sha256(b"T-12").hexdigest().upper(),)),
    ],
)
def test_an_allowed_text_is_no_finding_and_only_as_a_whole(allowed: Allowed) -> None:
    assert judged({"prompt": "a T-12 b"}, watch(), allowed=allowed)[1] is None
    for other in ("T-125", "T-12 T-3"):
        assert judged({"prompt": other}, watch(), allowed=allowed)[1] is not None
    assert judged({"prompt": "VC0xMiBhbGxvd2Vk"}, watch(), allowed=allowed)[1] is None


def test_an_allowed_pattern_or_a_detector_that_is_not_linear_stops_the_start() -> None:
    with pytest.raises(ConfigError):
        Policy(PolicyTable(allowed=Allowed(patterns=("(?=a)",))), [])
    for detector in (
        Detector.regex("x", "(?=a)"),
        Detector(kind="x", find=broken),
        Detector.regex("x", "a+"),
    ):
        with pytest.raises(ConfigError, match="plugin 'bad'"):
            Policy(PolicyTable(), [watch(), watch(detector, plugin="bad")])


@pytest.mark.parametrize("action", ["redact", "deny", "monitor"])
@pytest.mark.parametrize(
    "span",
    [(-5, -1), (0, 99), (3, 1), ("0", "1"), (0.0, 2.0), (True, 2), (None, 1), 7, (1, 2, 3)],
)
def test_a_span_that_is_not_within_the_text_denies(span: Any, action: str) -> None:
    _, deny, trail = judged({}, finds(lambda _: [span]), request={"ticket": action})
    assert deny is not None
    assert deny.code == "plugin_failed"
    verdict = trail.verdicts[0]
    assert (verdict.verdict, verdict.hook, verdict.plugin) == ("error", "detectors", "p")


def exits(_: str) -> Iterable[tuple[int, int]]:
    raise SystemExit(0)


def broken(text: str) -> Iterable[tuple[int, int]]:
    raise ValueError(f"no {text}")


@pytest.mark.parametrize("find", [broken, exits, lambda _: None, lambda _: 5])
def test_a_detector_that_fails_denies_unless_the_operator_allows_it(find: Any) -> None:
    assert judged({}, finds(find), request={"ticket": "monitor"})[1] is not None
    for settings in _BORNE:
        _, deny, trail = judged({"user": "x"}, finds(find, **settings))
        assert deny is None
        (verdict,) = trail.verdicts
        assert verdict.verdict.endswith("error")


@pytest.mark.parametrize("check", [broken, exits])
def test_a_check_that_fails_denies_unless_the_operator_allows_it(check: Any) -> None:
    _, deny, trail = judged({}, checks(check))
    assert deny is not None
    assert deny.code == "plugin_failed"
    assert (
        trail.verdicts[0].detail
        == f"ticket: raised {'ValueError' if check is broken else 'SystemExit'}"
    )
    assert judged({}, checks(check, allow_on_error=True))[1] is None


def away(_: str) -> Iterable[tuple[int, int]]:
    raise Unavailable("The service that finds names does not answer; try again.", retry_after=7)


def test_a_detector_that_cannot_reach_what_it_needs_is_503_and_another_try_may_help() -> None:
    _, deny, trail = judged({}, finds(away))
    assert deny is not None
    assert (deny.status, deny.code, deny.headers) == (
        503,
        "state_unavailable",
        {"retry-after": "7"},
    )
    assert trail.verdicts[0].detail == f"ticket: is unavailable: {deny.message}"
    assert judged({}, finds(away, allow_on_error=True))[1] is None


def test_what_a_broken_detector_says_is_not_logged_for_it_may_quote_the_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    judged({}, finds(broken))
    assert "plugin p failed in a detector" in caplog.text
    assert "Hello" not in caplog.text


def test_a_fault_that_is_borne_silences_no_other_detector() -> None:
    _, deny, _ = judged({"prompt": "T-1"}, finds(broken, kind="odd", allow_on_error=True), watch())
    assert deny is not None
    assert deny.code == "content_policy_violation"


def slow(text: str) -> Iterable[tuple[int, int]]:
    time.sleep(0.005)
    return [(0, len(text))] if text == "secret" else []


def test_a_detector_past_its_deadline_denies_and_what_it_found_counts_anyway() -> None:
    _, deny, _ = judged({}, finds(slow, deadline=0.001))
    assert deny is not None
    assert deny.code == "plugin_failed"
    for settings in _BORNE:
        _, deny, trail = judged({}, finds(slow, deadline=0.001, **settings))
        assert deny is None
        assert trail.verdicts[0].detail == "ticket: exceeded its deadline"
    _, deny, _ = judged({"prompt": "secret"}, finds(slow, deadline=0.001, allow_on_error=True))
    assert deny is not None
    assert deny.code == "content_policy_violation"


def test_texts_that_are_quick_one_by_one_are_counted_together() -> None:
    many = {"prompt": ["x"] * 20}
    assert judged(many, finds(slow, deadline=0.05))[1] is not None
    assert judged({}, finds(slow, deadline=0.5))[1] is None


def test_a_search_as_a_whole_has_the_longest_deadline() -> None:
    policy = Policy(PolicyTable(), [watch(deadline=0.001), watch(deadline=0.002)])
    active = policy.active(call(), "request")
    with pytest.raises(Refused) as refused:
        policy.attempt(lambda: time.sleep(0.01), active, Trail())
    assert refused.value.refusal[1] == "policy"
    tolerant = Policy(PolicyTable(), [watch(deadline=0.001, monitor=True)])
    trail = Trail()
    found = tolerant.attempt(lambda: slow("secret"), tolerant.active(call(), "request"), trail)
    assert (found, trail.verdicts[0].plugin) == ([(0, 6)], "policy")


def test_a_failure_of_our_own_denies_whatever_is_allowed() -> None:
    policy = Policy(PolicyTable(), [watch(monitor=True)])
    with pytest.raises(Refused):
        policy.attempt(lambda: 1 / 0, policy.active(call(), "request"), Trail())


def test_a_monitored_detector_only_records_whatever_the_policy_says() -> None:
    body, deny, trail = judged({"prompt": "T-1"}, watch(monitor=True), request={"ticket": "redact"})
    assert (deny, body["prompt"]) == (None, "T-1")
    assert trail.findings[0].action == "monitor"


def test_one_monitored_detector_does_not_silence_another_of_its_kind() -> None:
    assert judged({"prompt": "T-1"}, watch(monitor=True), watch())[1] is not None


def test_a_detector_is_asked_only_for_calls_within_its_scope() -> None:
    other = watch(scope=Scope(principals=Globs(["b"])))
    mine = watch(scope=Scope(principals=Globs(["a"])))
    assert judged({"prompt": "T-1"}, other)[1] is None
    assert judged({"prompt": "T-1"}, mine)[1] is not None
    assert judged({"prompt": "T-1"}, other, mine)[1] is not None


def test_what_is_asked_is_worked_out_once_for_calls_of_the_same_scope() -> None:
    policy = Policy(PolicyTable(), [watch()])
    assert policy.active(call(), "request") is policy.active(call(), "request")


def test_an_empty_match_is_no_finding() -> None:
    assert judged({}, finds(lambda _: [(0, 0), (1, 1)]))[1] is None


def test_faults_in_one_thread_are_not_those_of_another() -> None:
    barrier = threading.Barrier(2)

    def find(text: str) -> list[tuple[int, int]]:
        barrier.wait(5)
        if text == "bad":
            raise ValueError
        return []

    policy = Policy(PolicyTable(), [finds(find, allow_on_error=True)])
    trails = {name: Trail() for name in ("bad", "good")}

    def run(name: str) -> None:
        active = policy.active(call(), "request")
        policy.attempt(lambda: policy.find(name, active.chosen), active, trails[name])

    threads = [threading.Thread(target=run, args=(name,)) for name in trails]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(trails[name].verdicts) for name in ("bad", "good")] == [1, 0]
