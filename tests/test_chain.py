"""The fold over the hook chain: values are threaded, faults deny, and scopes never widen."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from proxy import chain
from proxy.frozen import FrozenDict, freeze
from proxy.model import Call, Choice, Credentials, Deny, Principal, Reply, Request
from proxy.patterns import Globs
from proxy.records import Failure, Record
from proxy.secret import Secret
from proxy.steps import Running, Scope, Step, Trail

CALL = Call(
    id="req_1",
    endpoint="completions",
    body=freeze({"model": "m", "prompt": "Hi"}),
    principal=Principal("alice", ("staff",)),
    model="m",
)
REPLY = Reply(status=200, body=freeze({"choices": []}))
REQUEST = Request(
    id="req_1",
    endpoint="chat",
    headers={},
    credentials=Credentials(caller=Secret("caller-key-0123")),
    client="127.0.0.1",
)
RECORD = Record(
    id="req_1", time="", endpoint="chat", outcome="ok", status=200, seconds=0.1, groups=("staff",)
)
ARGUMENTS = {
    "rewrite_request": ("call",),
    "guard_request": ("call",),
    "answer_request": ("call",),
    "choose_upstream": ("call", "failures"),
    "rewrite_response": ("call", "reply"),
    "identify": ("request",),
    "log_exchange": ("record",),
}


def step(hook: str, function: Callable[..., Any], plugin: str = "p", **settings: Any) -> Step:
    arguments = ARGUMENTS[hook]
    return Step(plugin=plugin, hook=hook, function=function, arguments=arguments, **settings)


def fold(hook: str, *steps: Step, call: Call = CALL) -> tuple[Any, list[tuple[str, str]]]:
    """The result of a hook's fold, and the verdicts: (plugin, verdict)."""
    trail = Trail()
    match hook:
        case "rewrite_request":
            result: Any = chain.rewrite_request(steps, call, trail)
        case "guard_request":
            result = chain.guard_request(steps, call, trail)
        case "answer_request":
            result = chain.answer_request(steps, call, trail)
        case "choose_upstream":
            result = chain.choose_upstream(steps, call, (), trail)
        case "rewrite_response":
            result = chain.rewrite_response(steps, call, REPLY, trail)
        case _:
            result = chain.identify(steps, REQUEST, trail)
    return result, [(verdict.plugin, verdict.verdict) for verdict in trail.verdicts]


def exits(*_: Any) -> Any:
    raise SystemExit(0)


def cancels(*_: Any) -> Any:
    raise KeyboardInterrupt


def raises(*_: Any) -> Any:
    raise ValueError("no")


def dawdles(*_: Any) -> Any:
    time.sleep(0.02)


BROKEN = [raises, exits, cancels, lambda *_: 5, lambda *_: True, lambda *_: object, lambda *_: Deny]
HOOKS = [
    "rewrite_request",
    "guard_request",
    "answer_request",
    "choose_upstream",
    "rewrite_response",
    "identify",
]


def denial(result: Any) -> Deny | None:
    found = result[0] if isinstance(result, tuple) else result
    return found if isinstance(found, Deny) else None


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("function", BROKEN)
def test_a_plugin_that_raises_or_returns_garbage_denies(
    hook: str, function: Callable[..., Any]
) -> None:
    result, verdicts = fold(hook, step(hook, function))
    deny = denial(result)
    assert deny is not None
    assert (deny.code, deny.status) == ("plugin_failed", 500)
    assert "'p' could not judge this call" in deny.message
    assert verdicts == [("p", "error")]


@pytest.mark.parametrize("hook", HOOKS)
def test_a_plugin_that_takes_longer_than_its_deadline_denies(hook: str) -> None:
    result, _ = fold(hook, step(hook, dawdles, deadline=0.001))
    assert denial(result) is not None
    assert denial(fold(hook, step(hook, dawdles, deadline=60))[0]) is None


@pytest.mark.parametrize("hook", HOOKS[:-1])
@pytest.mark.parametrize("function", [*BROKEN, dawdles])
def test_where_the_operator_allows_errors_the_next_plugin_is_asked(
    hook: str, function: Callable[..., Any]
) -> None:
    after = step(hook, lambda *_: Deny("no"), "after")
    broken = step(hook, function, deadline=0.001, allow_on_error=True)
    result, verdicts = fold(hook, broken, after)
    assert denial(result) == Deny("no")
    assert verdicts == [("p", "error"), ("after", "deny")]


@pytest.mark.parametrize("hook", HOOKS[:-1])
@pytest.mark.parametrize("function", [*BROKEN, dawdles, lambda *_: Deny("no")])
def test_a_monitored_plugin_decides_nothing_but_is_noted(
    hook: str, function: Callable[..., Any]
) -> None:
    result, verdicts = fold(hook, step(hook, function, deadline=0.001, monitor=True))
    assert denial(result) is None
    assert verdicts[0][1] in ("monitor:error", "monitor:deny")


def test_identify_denies_on_a_fault_whatever_was_said_of_errors() -> None:
    for allow, monitor in ((True, False), (False, True)):
        broken = step("identify", raises, allow_on_error=allow, monitor=monitor)
        assert denial(fold("identify", broken)[0]) is not None


@pytest.mark.parametrize("hook", HOOKS[:-1])
def test_a_deny_is_final_and_later_plugins_are_not_asked(hook: str) -> None:
    asked: list[str] = []
    later = step(hook, lambda *_: asked.append("later"), "later")
    result, verdicts = fold(hook, step(hook, lambda *_: Deny("no", "mine")), later)
    assert denial(result) == Deny("no", "mine")
    assert asked == []
    assert verdicts == [("p", "deny")]


@pytest.mark.parametrize("hook", HOOKS[:-1])
def test_a_deny_that_comes_too_late_still_denies_even_where_errors_are_allowed(hook: str) -> None:
    def slow(*_: Any) -> Deny:
        time.sleep(0.02)
        return Deny("no", "late")

    result, _ = fold(hook, step(hook, slow, deadline=0.001, allow_on_error=True))
    assert denial(result) == Deny("no", "late")


class Falsy(Deny, frozen=True):
    def __bool__(self) -> bool:
        return False


@pytest.mark.parametrize(
    ("deny", "status"),
    [
        (Falsy("no"), 400),
        (Deny("no", status=200), 400),
        (Deny("no", status=True), 400),
        (Deny("no", status="403"), 400),  # type: ignore[arg-type]
        (Deny("no", status=451), 451),
        (Deny(None, None, 3), 400),  # type: ignore[arg-type]
    ],
)
def test_a_deny_is_not_lost_over_its_form(deny: Deny, status: int) -> None:
    result, _ = fold("guard_request", step("guard_request", lambda _: deny, allow_on_error=True))
    found, plugin = result
    assert (found.status, plugin) == (status, "p")
    assert isinstance(found.message, str)
    assert isinstance(found.code, str)
    assert found.param is None


# -- rewrite_request ------------------------------------------------------------------------------


def test_each_plugin_sees_what_the_one_before_it_made() -> None:
    def add(word: str) -> Callable[[Call], Call]:
        return lambda call: call.with_body(prompt=call.body["prompt"] + word)

    steps = [step("rewrite_request", add(word), word) for word in "abc"]
    result, verdicts = fold("rewrite_request", *steps)
    assert result.body["prompt"] == "Hiabc"
    assert verdicts == [("a", "rewrite"), ("b", "rewrite"), ("c", "rewrite")]


def test_no_change_and_an_equal_call_are_a_pass() -> None:
    same = step("rewrite_request", lambda call: call.with_body(prompt="Hi"))
    nothing = step("rewrite_request", lambda _: None)
    result, verdicts = fold("rewrite_request", same, nothing)
    assert result is CALL
    assert verdicts == [("p", "pass"), ("p", "pass")]


def test_a_monitored_rewrite_is_noted_and_not_made() -> None:
    rewriting = step("rewrite_request", lambda call: call.with_body(prompt="x"), monitor=True)
    result, verdicts = fold("rewrite_request", rewriting)
    assert result is CALL
    assert verdicts == [("p", "monitor:rewrite")]


def changed(**changes: Any) -> Callable[[Call], Call]:
    """A rewrite by hand, past the methods of ``Call`` that keep it consistent."""

    def rewrite(call: Call) -> Call:
        fields = {name: getattr(call, name) for name in call.__struct_fields__}
        return Call(**{**fields, **changes})

    return rewrite


class Painted(Call, frozen=True):
    def texts(self) -> Any:
        return iter(())


@pytest.mark.parametrize(
    ("rewrite", "fault"),
    [
        (changed(id="other"), "changed id"),
        (changed(endpoint="chat"), "changed endpoint"),
        (changed(principal=Principal("root")), "changed principal"),
        (changed(principal=Principal("alice", ("staff", "admin"))), "changed principal"),
        (changed(headers=FrozenDict({"a": "b"})), "changed headers"),
        (changed(deadline=1e9), "changed deadline"),
        (changed(body=None), "set a body that is no object"),
        (changed(body=[1]), "set a body that is no object"),
        (changed(model="other"), "set model or stream beside the body"),
        (changed(stream=True), "set model or stream beside the body"),
        (lambda call: call.with_body(model=5), "set model or stream beside the body"),
        (lambda call: call.note(x=object()), "gave notes that JSON cannot say"),
        (lambda call: call.note(x="\ud800"), "gave notes that JSON cannot say"),
        (lambda call: call.note(x=Secret("s")), "gave notes that JSON cannot say"),
        (changed(notes=None), "set notes that are no object"),
        (changed(reply_headers={"set-cookie": "x"}), "only x-* with printable ASCII is taken"),
        (changed(reply_headers={"x-a": "b\r\nx: y"}), "only x-* with printable ASCII is taken"),
        (changed(reply_headers={"x-accel-redirect": "/etc"}), "is not a plugin's to set"),
        (changed(reply_headers={"x-request-id": "1"}), "is not a plugin's to set"),
        (changed(reply_headers={"x-a": 5}), "raised TypeError"),
        (changed(reply_headers=None), "raised AttributeError"),
        (lambda call: Painted(**{n: getattr(call, n) for n in call.__struct_fields__}), "Painted"),
    ],
)
def test_a_call_that_is_not_the_same_call_is_a_fault(
    rewrite: Callable[[Call], Call], fault: str
) -> None:
    trail = Trail()
    result = chain.rewrite_request([step("rewrite_request", rewrite)], CALL, trail)
    assert isinstance(result, Deny)
    assert fault in (trail.verdicts[0].detail or "")
    # Monitored, the same plugin cannot disturb anybody.
    monitored = step("rewrite_request", rewrite, monitor=True)
    assert fold("rewrite_request", monitored)[0] is CALL


def test_a_rewritten_body_is_frozen_whatever_the_plugin_made_it_of() -> None:
    mine: dict[str, Any] = {"model": "m", "prompt": ["Hi"]}
    result, _ = fold("rewrite_request", step("rewrite_request", changed(body=mine)))
    mine["prompt"].append("smuggled")
    assert result.body == {"model": "m", "prompt": ["Hi"]}
    with pytest.raises(TypeError, match="is frozen"):
        result.body["prompt"].append("x")


@pytest.mark.parametrize("endpoint", ["models", "model"])
def test_an_endpoint_without_a_body_may_be_rewritten_like_any_other(endpoint: Any) -> None:
    call = Call(id="1", endpoint=endpoint, body=FrozenDict(), principal=Principal("a"), model="m")
    noting = step("rewrite_request", lambda call: call.note(seen=True).with_body(user="x"))
    result, verdicts = fold("rewrite_request", noting, call=call)
    assert (result.model, result.notes) == ("m", {"seen": True})
    assert verdicts == [("p", "rewrite")]


# -- the other hooks ------------------------------------------------------------------------------


def test_the_first_plugin_that_knows_the_caller_counts() -> None:
    unknown = step("identify", lambda _: None, "unknown")
    known = step("identify", lambda _: Principal("bob"), "known")
    never = step("identify", raises, "never")
    result, verdicts = fold("identify", unknown, known, never)
    assert result == Principal("bob")
    assert verdicts == [("known", "identified")]
    assert fold("identify", unknown) == (None, [])


@pytest.mark.parametrize(
    "principal",
    [
        Principal(""),
        Principal(None),  # type: ignore[arg-type]
        Principal("a", "staff"),  # type: ignore[arg-type]
        Principal("a", ["staff"]),  # type: ignore[arg-type]
        Principal("a", (1,)),  # type: ignore[arg-type]
        Principal("a", (), None),  # type: ignore[arg-type]
        Principal("\ud800"),
    ],
)
def test_a_principal_that_scopes_could_misread_denies(principal: Principal) -> None:
    result, _ = fold("identify", step("identify", lambda _: principal))
    assert denial(result) is not None


def test_the_metadata_of_a_principal_is_frozen() -> None:
    mine = {"team": "a"}
    result, _ = fold("identify", step("identify", lambda _: Principal("a", (), mine)))
    mine["team"] = "b"
    assert result.metadata == {"team": "a"}


def test_the_first_plugin_that_names_an_upstream_counts_unless_it_is_monitored() -> None:
    first = step("choose_upstream", lambda *_: "one", "first", monitor=True)
    second = step("choose_upstream", lambda *_: "two", "second")
    result, verdicts = fold("choose_upstream", first, second)
    assert result == Choice(upstream="two")
    assert verdicts == [("first", "monitor:chosen"), ("second", "chosen")]


def test_a_plugin_that_chooses_is_shown_what_failed() -> None:
    failures = (Failure("one", "connect", "refused"),)
    chooser = step("choose_upstream", lambda _, failed: f"after-{failed[0].upstream}")
    chosen = chain.choose_upstream([chooser], CALL, failures, Trail())
    assert chosen == Choice(upstream="after-one")


def test_a_reply_is_threaded_and_a_deny_ends_it() -> None:
    marked = step("rewrite_response", lambda _, reply: reply.with_body(mark=1).replace(notes={}))
    checks = step("rewrite_response", lambda _, reply: None if reply.body["mark"] else Deny("no"))
    result, verdicts = fold("rewrite_response", marked, checks)
    assert result.body == {"choices": [], "mark": 1}
    assert verdicts == [("p", "rewrite"), ("p", "pass")]


class PaintedReply(Reply, frozen=True):
    pass


@pytest.mark.parametrize(
    "reply",
    [
        REPLY.replace(status=201),
        REPLY.replace(body=None),
        REPLY.replace(notes={"x": object()}),
        PaintedReply(status=200, body={}),
    ],
)
def test_a_reply_that_is_not_the_same_reply_denies(reply: Reply) -> None:
    result, _ = fold("rewrite_response", step("rewrite_response", lambda *_: reply))
    assert denial(result) is not None


def test_every_sink_is_told_and_one_that_fails_keeps_nothing_from_the_others() -> None:
    seen: list[Record] = []
    sinks = [
        step("log_exchange", raises, "a"),
        step("log_exchange", seen.append, "b"),
        step("log_exchange", raises, "b"),
        step("log_exchange", exits, "c"),
        step("log_exchange", dawdles, "d", deadline=0.001),
        step("log_exchange", seen.append, "e"),
        step("log_exchange", seen.append, "f", scope=Scope(groups=Globs(["other"]))),
    ]
    told = chain.tell(sinks, RECORD, Running())
    assert told == {"a": False, "b": False, "c": False, "d": False, "e": True}
    assert seen == [RECORD, RECORD]


# -- scopes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "covered"),
    [
        (Scope(), True),
        (Scope(principals=Globs(["a*"])), True),
        (Scope(principals=Globs(["bob", "alice"])), True),
        (Scope(principals=Globs(["bob"])), False),
        (Scope(groups=Globs(["admin", "st?ff"])), True),
        (Scope(groups=Globs(["admin"])), False),
        (Scope(models=Globs(["m"])), True),
        (Scope(models=Globs(["M"])), False),
        (Scope(endpoints=Globs(["comp*"])), True),
        (Scope(endpoints=Globs([])), False),
        (Scope(principals=Globs(["alice"]), groups=Globs(["admin"])), False),
        (Scope(principals=Globs(["alice"]), models=Globs(["m"]), groups=Globs(["*"])), True),
    ],
)
def test_every_list_that_is_given_must_fit_and_one_entry_of_each_is_enough(
    scope: Scope, covered: bool
) -> None:
    assert scope.covers_call(CALL) is covered
    for hook in HOOKS[:-1]:
        result, _ = fold(hook, step(hook, lambda *_: Deny("no"), scope=scope))
        assert (denial(result) is not None) is covered


def test_nobody_is_in_no_group_even_for_a_glob_that_fits_all() -> None:
    assert not Scope(groups=Globs(["*"])).covers("chat", "alice", (), "m")


def test_a_scope_is_asked_of_the_call_as_earlier_plugins_left_it() -> None:
    to_x = step("rewrite_request", lambda call: call.with_body(model="x"))
    scoped = step("rewrite_request", lambda _: Deny("no"), scope=Scope(models=Globs(["x"])))
    assert denial(fold("rewrite_request", to_x, scoped)[0]) is not None
    assert denial(fold("rewrite_request", scoped, to_x)[0]) is None


def test_identify_is_scoped_by_endpoint_alone() -> None:
    who = step("identify", lambda _: Principal("a"), scope=Scope(endpoints=Globs(["embeddings"])))
    assert fold("identify", who)[0] is None


# -- what is kept ---------------------------------------------------------------------------------


def test_a_hook_past_its_deadline_is_seen_while_it_hangs() -> None:
    running, inside, free = Running(), threading.Event(), threading.Event()

    def hang(_: Any) -> None:
        inside.set()
        free.wait(10)

    hanging = step("guard_request", hang, "stuck", deadline=0.001)
    trail = Trail(running)
    thread = threading.Thread(target=chain.guard_request, args=([hanging], CALL, trail))
    thread.start()
    inside.wait(10)
    time.sleep(0.01)
    assert running.hung() == ["stuck"]
    free.set()
    thread.join()
    assert running.hung() == []


def test_an_error_is_logged_with_its_traceback_but_never_what_identify_says(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def leak(request: Any) -> Any:
        raise ValueError(f"bad key {request.credentials.caller.reveal()}")

    with caplog.at_level(logging.ERROR):
        fold("identify", step("identify", leak))
    assert "plugin p failed in identify" in caplog.text
    assert "in leak" in caplog.text
    assert "caller-key-0123" not in caplog.text
    caplog.clear()
    fold("guard_request", step("guard_request", raises))
    assert "ValueError: no" in caplog.text


def test_a_detail_is_short_and_can_be_written_by_every_log() -> None:
    trail = Trail()
    long = "x" * 300 + "\ud800"
    chain.choose_upstream([step("choose_upstream", lambda *_: "\ud800" + long)], CALL, (), trail)
    detail = trail.verdicts[0].detail
    assert detail is not None
    assert detail.startswith("\\ud800xxx")
    assert len(detail.encode()) < 300
