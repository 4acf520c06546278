# ruff: noqa: ARG005 - a hook is known by the arguments it asks for
"""The promises of the hook chain, kept against plugins that break every rule, through the whole gateway."""

import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import pytest

from proxy import Call, ConfigError, Deny, Detector, Principal, hookimpl
from proxy.app import create_app
from proxy.config import parse
from proxy.jsonio import encode
from tests.gateway import COMPLETION, bearer, document, gateway, refused

KEPT: Final[list[Any]] = []


def renamed(call: Call, **changes: Any) -> Call:
    """A call changed past its own methods."""
    return msgspec.structs.replace(call, **changes)


def exits(call: Call) -> Any:
    sys.exit(0)


def cancels(call: Call) -> Any:
    raise KeyboardInterrupt


def raises(call: Call) -> Any:
    raise RuntimeError("broken")


def edits(call: Call) -> Any:
    call.body["prompt"] = "smuggled"  # type: ignore[index]


def edits_by_name(call: Call) -> Any:
    call.principal.name = "root"  # type: ignore[misc]


def hangs(call: Call) -> Any:
    time.sleep(0.05)


BEHAVIOURS: Final[dict[str, Callable[[Call], Any]]] = {
    "raises": raises,
    "exits": exits,
    "cancels": cancels,
    "edits": edits,
    "edits_by_name": edits_by_name,
    "hangs": hangs,
    "text": lambda call: "fine",
    "true": lambda call: True,
    "dict": lambda call: {"prompt": "x"},
    "id": lambda call: renamed(call, id="other"),
    "principal": lambda call: renamed(call, principal=Principal("root")),
    "endpoint": lambda call: renamed(call, endpoint="chat"),
    "model_apart": lambda call: renamed(call, model="allowed"),
    "invalid": lambda call: call.with_body(prompt={"not": "a prompt"}),
    "steering": lambda call: call.with_body(api_base="https://elsewhere.example"),
    "note": lambda call: call.note(seen=object()),
}


@dataclass(frozen=True)
class Rewrites:
    what: str

    @hookimpl
    def rewrite_request(self, call: Call) -> Any:
        return BEHAVIOURS[self.what](call)


@dataclass(frozen=True)
class Guards:
    what: str

    @hookimpl
    def guard_request(self, call: Call) -> Any:
        return BEHAVIOURS[self.what](call)


@dataclass(frozen=True)
class Denies:
    @hookimpl
    def guard_request(self) -> Deny:
        return Deny("Not from here.", code="not_from_here", status=403)


@dataclass(frozen=True)
class Allows:
    """Does all a later plugin could think of to let a call pass."""

    @hookimpl
    def rewrite_request(self, call: Call) -> Call:
        return call.note(approved=True)

    @hookimpl
    def guard_request(self) -> None:
        KEPT.append("asked")


@dataclass(frozen=True)
class Keeps:
    """Keeps a reference to what it returned, and changes it after the guardrails have looked."""

    @hookimpl
    def rewrite_request(self, call: Call) -> Call:
        prompt = ["Hello"]
        KEPT.append(prompt)
        return renamed(call, body={**call.body, "prompt": prompt})


@dataclass(frozen=True)
class ChangesLater:
    @hookimpl
    def guard_request(self) -> None:
        KEPT[-1].append("smuggled")


@dataclass(frozen=True)
class Signs:
    """Writes the caller into its prompt, slowly, so that calls overlap."""

    @hookimpl
    def rewrite_request(self, call: Call) -> Call:
        time.sleep(0.005)
        return call.with_body(user=call.body["prompt"]).note(thread=threading.get_ident())


@dataclass(frozen=True)
class Finds:
    what: str

    @hookimpl
    def detectors(self) -> Any:
        yield Detector(kind="ticket", window=9, find=BEHAVIOURS[self.what])  # type: ignore[arg-type]


def plugin(use: str, name: str | None = None, **settings: Any) -> dict[str, Any]:
    options = {"options": {"what": settings.pop("what")}} if "what" in settings else {}
    return {"use": f"{__name__}:{use}", "name": name or use, **options, **settings}


@pytest.fixture(autouse=True)
def nothing_kept() -> None:
    KEPT.clear()


def test_invariant_1_a_deny_cannot_be_undone_by_a_later_plugin() -> None:
    later = plugin("Allows", "later", on_error="allow")
    with gateway(plugins=[plugin("Allows", "before"), plugin("Denies"), later]) as gate:
        error = refused(gate.ask(COMPLETION), 403, "not_from_here")
        assert error["message"] == "Not from here."
        assert gate.upstream.connections == 0
        assert gate.record().denied_by == "Denies"
    assert KEPT == ["asked"]


BROKEN = ["raises", "exits", "cancels", "edits", "edits_by_name", "hangs", "text", "true", "dict"]


@pytest.mark.parametrize("use", ["Rewrites", "Guards"])
@pytest.mark.parametrize("what", BROKEN)
def test_invariant_2_a_plugin_that_breaks_denies_and_the_next_call_is_served(
    use: str, what: str
) -> None:
    scoped = plugin(use, what=what, deadline=0.01, when={"models": ["m"]})
    with gateway(plugins=[scoped]) as gate:
        refused(gate.ask(COMPLETION), 500, "plugin_failed")
        assert gate.upstream.connections == 0
        assert gate.record().denied_by == use
        assert gate.ask({**COMPLETION, "model": "other"}).status == 200


@pytest.mark.parametrize("what", ["raises", "exits", "text", "true", "hangs"])
def test_invariant_2_holds_for_detectors_too(what: str) -> None:
    with gateway(plugins=[plugin("Finds", what=what, deadline=0.01)]) as gate:
        refused(gate.ask(COMPLETION), 500, "plugin_failed")
        assert gate.upstream.connections == 0


@pytest.mark.parametrize("what", [*BROKEN, "id", "principal", "note"])
def test_invariant_2_a_monitored_plugin_can_break_without_touching_a_call(what: str) -> None:
    with gateway(plugins=[plugin("Rewrites", what=what, mode="monitor")]) as gate:
        assert gate.ask(COMPLETION).status == 200
        assert gate.upstream.requests[0].json() == COMPLETION


@pytest.mark.parametrize("what", ["id", "principal", "endpoint", "model_apart"])
def test_invariant_3_no_plugin_changes_id_principal_or_endpoint(what: str) -> None:
    with gateway(plugins=[plugin("Rewrites", what=what), plugin("Allows")]) as gate:
        refused(gate.ask(COMPLETION), 500, "plugin_failed")
        record = gate.record()
        assert (record.principal, record.endpoint, record.model) == ("alice", "completions", "m")
        assert gate.upstream.connections == 0
    tolerant = plugin("Rewrites", what=what, on_error="allow")
    with gateway(plugins=[tolerant]) as gate:
        assert gate.ask(COMPLETION).status == 200
        assert gate.upstream.requests[0].json() == COMPLETION
        assert gate.record().principal == "alice"


@pytest.mark.parametrize("what", ["invalid", "steering"])
def test_invariant_2_a_rewritten_body_is_checked_like_a_callers(what: str) -> None:
    with gateway(plugins=[plugin("Rewrites", what=what)]) as gate:
        refused(gate.ask(COMPLETION), 500, "plugin_failed")
        assert gate.record().denied_by == "Rewrites"
        assert gate.upstream.connections == 0


def test_invariant_4_what_a_plugin_changes_later_is_not_sent() -> None:
    with gateway(plugins=[plugin("Keeps"), plugin("ChangesLater")]) as gate:
        assert gate.ask(COMPLETION).status == 200
        assert KEPT[0] == ["Hello", "smuggled"]
        assert gate.upstream.requests[0].body == encode({**COMPLETION, "prompt": ["Hello"]})


def test_invariant_3_calls_in_many_threads_do_not_touch_each_other() -> None:
    with gateway(plugins=[plugin("Signs")]) as gate, ThreadPoolExecutor(32) as pool:
        prompts = [f"prompt {number}" for number in range(128)]
        answers = list(pool.map(lambda prompt: gate.ask({**COMPLETION, "prompt": prompt}), prompts))
        assert {answer.status for answer in answers} == {200}
        sent = [request.json() for request in gate.upstream.requests]
        assert all(body["user"] == body["prompt"] for body in sent)
        assert sorted(body["prompt"] for body in sent) == sorted(prompts)
        gate.record(128)
        assert len({record.id for record in gate.records}) == 128


# -- what is not known is refused -----------------------------------------------------------------


def refusal(**sections: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        create_app(parse(document("http://127.0.0.1:9", "unused", **sections)))
    return str(caught.value)


def test_invariant_11_an_unknown_route_plugin_or_key_is_refused() -> None:
    with gateway() as gate:
        refused(gate.ask(COMPLETION, path="/v1/nothing"), 404, "unknown_url")
        refused(gate.ask(COMPLETION, path="/v1/completions?x=1"), 400)
        refused(gate.ask(path="/v1/completions", method="DELETE"), 405)
        assert gate.upstream.connections == 0
    assert "is not installed" in refusal(plugins=[{"use": "nothing"}])
    assert "unknown key 'limit'" in refusal(limit={})
    assert "unknown key 'pattern'" in refusal(
        plugins=[{"use": "regex_guard", "options": {"pattern": {}}}]
    )


def test_invariant_11_an_unknown_parameter_is_scanned_or_refused_never_ignored() -> None:
    guard = {"use": "regex_guard", "options": {"patterns": {"ticket": "T-[0-9]{1,9}"}}}
    with gateway(plugins=[guard]) as gate:
        hidden = {**COMPLETION, "top_k": 5, "odd": {"deep": ["T-12"]}}
        refused(gate.ask(hidden), 400, "content_policy_violation")
        refused(gate.ask({**COMPLETION, "T-12": 1}), 400, "content_policy_violation")
        assert gate.upstream.connections == 0
        assert gate.ask({**COMPLETION, "top_k": 5}).status == 200
        assert gate.upstream.requests[0].json()["top_k"] == 5
    with gateway(parameters={"unknown": "refuse"}) as gate:
        refused(gate.ask({**COMPLETION, "top_k": 5}), 400, "unknown_parameter")
        assert gate.upstream.connections == 0


@pytest.mark.parametrize(
    "headers",
    [
        [("x-portkey-custom-host", "http://169.254.169.254/v1")],
        [("x-forwarded-host", "evil.example"), ("forwarded", "host=evil.example")],
        [("x-outgate-policy", "off"), ("x-portkey-config", '{"guardrails": false}')],
        [("x-upstream", "other"), ("x-portkey-provider", "other")],
    ],
)
def test_invariant_12_no_header_selects_policy_host_or_credential(
    headers: list[tuple[str, str]],
) -> None:
    with gateway(plugins=[plugin("Allows")]) as gate:
        assert gate.ask(COMPLETION, [*bearer(), *headers]).status == 200
        sent = gate.upstream.requests[0]
        assert sent.header("authorization") == "Bearer sk-upstream-0123456789"
        assert not {name for name, _ in headers} & {name.lower() for name, _ in sent.headers}


@pytest.mark.parametrize("key", ["api_base", "base_url", "api_key", "extra_headers", "extra_body"])
def test_invariant_12_no_parameter_selects_host_header_or_credential(key: str) -> None:
    with gateway() as gate:
        refused(gate.ask({**COMPLETION, key: "https://evil.example"}), 400)
        assert gate.upstream.connections == 0
