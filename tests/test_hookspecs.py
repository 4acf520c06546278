"""The hooks are documented well enough to be used from what their documentation says."""

import inspect
import re
import textwrap
from collections.abc import Callable
from typing import Any

import pytest
from flask import Blueprint, Flask

import proxy
from proxy import Admission, Detector, hookspecs
from proxy.errors import ConfigError
from proxy.frozen import freeze
from proxy.hookspecs import only
from proxy.model import Call, Credentials, Deny, Principal, Reply, Request
from proxy.records import Denial, Failure, Finding, Record
from proxy.secret import Secret
from proxy.signatures import HOOKS, check_hook

CALL = Call(
    id="req_1",
    endpoint="completions",
    body=freeze({"model": "m", "prompt": "Strictly confidential!"}),
    principal=Principal("alice"),
    model="m",
)
GIVEN: dict[str, Any] = {
    "app": Flask("example"),
    "call": CALL,
    "reply": Reply(status=200, body=freeze({"system_fingerprint": "fp", "choices": []})),
    "denial": Denial(Deny("no"), "guard", (Finding("email", "prompt", "guard", "deny"),)),
    "failures": (Failure("main", "connect", "refused"),),
    "request": Request(
        id="req_1",
        endpoint="chat",
        headers={},
        credentials=Credentials(caller=Secret("ci-key")),
        client="127.0.0.1",
    ),
    "record": Record(id="req_1", time="", endpoint="chat", outcome="ok", status=200, seconds=0),
}
REWRITTEN: dict[str, Reply] = {
    "rewrite_denial": Reply(status=451, body={"system_fingerprint": "fp", "choices": []}),
    "rewrite_response": Reply(status=200, body={"system_fingerprint": "hidden", "choices": []}),
}


#: What the examples take for granted beside the public names.
class _Quota:
    """The ten calls of a day."""

    def take(self, _name: str, _call: str) -> int:
        return 9


AROUND = {
    "status_page": Blueprint("status", "example"),
    "CI_KEY": Secret("ci-key"),
    "QUOTA": _Quota(),
}

EXPECTED = {
    "identify": Principal("ci"),
    "admit": Admission({"x-calls-left": "9"}),
    "answer_request": None,  # the model is no echo
    "choose_upstream": "backup",
}


def example(hook: str) -> Callable[..., Any]:
    """The implementation that the documentation of a hook shows."""
    doc = inspect.getdoc(getattr(hookspecs, hook)) or ""
    block = textwrap.dedent(re.split(r"Example::\n", doc)[1])
    names: dict[str, Any] = {**vars(proxy), **AROUND}
    exec(block, names)
    function: Callable[..., Any] = names[hook]
    return function


@pytest.mark.parametrize("hook", HOOKS)
def test_the_example_of_every_hook_is_accepted_and_runs(hook: str) -> None:
    function = example(hook)
    check_hook("example", hook, function)
    result = function(*(GIVEN[name] for name in inspect.signature(function).parameters))
    match hook:
        case "detectors":
            (detector,) = result
            assert isinstance(detector, Detector)
        case "providers":
            assert [provider.name for provider in result] == ["openai"]
        case "rewrite_request":
            assert result.body["user"] == "alice"
        case "guard_request":
            assert isinstance(result, Deny)
        case "rewrite_response" | "rewrite_denial":
            assert result == REWRITTEN[hook]
        case _:
            assert result == EXPECTED.get(hook)


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_says_when_it_is_called_what_an_error_means_and_what_of_streams(
    hook: str,
) -> None:
    doc = inspect.getdoc(getattr(hookspecs, hook)) or ""
    assert re.match(r"(Once|Exactly once|Before)", doc)
    assert re.search(r"[Aa]n error\b", doc)
    assert "Streams: " in doc


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_fully_typed(hook: str) -> None:
    signature = inspect.signature(getattr(hookspecs, hook))
    assert signature.return_annotation is not signature.empty
    assert all(p.annotation is not p.empty for p in signature.parameters.values())


@pytest.mark.parametrize("hook", ["detectors", "providers", "identify", "guard_request"])
def test_a_specification_is_never_called_itself(hook: str) -> None:
    spec = getattr(hookspecs, hook)
    with pytest.raises(NotImplementedError):
        spec(*(GIVEN[name] for name in inspect.signature(spec).parameters))


def test_only_takes_the_endpoints_that_exist() -> None:
    def hook(reply: Any) -> None: ...

    assert only("models", "chat")(hook) is hook
    assert vars(hook)["outgate_only"] == ("models", "chat")
    with pytest.raises(ConfigError, match=r"no endpoint 'modles'\. Did you mean 'models'\?"):
        only("modles")
    with pytest.raises(ConfigError, match="@only names no endpoint"):
        only()


def test_the_example_that_answers_does_so_in_the_form_of_the_api() -> None:
    function = example("answer_request")
    reply = function(CALL.with_body(model="office-hours"))
    assert reply.body == {"choices": [{"index": 0, "text": "Nine to five."}]}
    assert function(CALL) is None
