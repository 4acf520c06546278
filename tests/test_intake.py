from dataclasses import dataclass
from typing import Any, Final

import pytest

from proxy import Call, Deny, Principal, hookimpl
from tests.gateway import COMPLETION, JSON, REPLY, bearer, gateway, refused

_GUARD: Final = {"use": "regex_guard", "options": {"patterns": {"card": r"\d{16}"}}}
_CARD: Final = "4111111111111111"


@dataclass(frozen=True)
class Rewriter:
    """Rewrites every request as ``what`` says."""

    what: str

    @hookimpl
    def identify(self) -> Principal | None:
        if self.what == "identify":
            raise RuntimeError("no")
        return None

    @hookimpl
    def rewrite_request(self, call: Call) -> Any:
        changes: dict[str, Any] = {
            "change": {"prompt": "new"},
            "smuggle": {"prompt": _CARD},
            "break": {"prompt": 7},
            "unsendable": {"prompt": "half \ud800"},
            "infinite": {"temperature": float("inf")},
            "same": {},
        }
        if self.what == "deny":
            return Deny("Not like this.", code="no_rewrite")
        return call.with_body(**changes[self.what]) if self.what in changes else None


def rewriting(what: str) -> dict[str, Any]:
    return {"use": "tests.test_intake:Rewriter", "name": "rewriter", "options": {"what": what}}


def test_what_a_plugin_made_is_what_is_sent() -> None:
    with gateway(plugins=[rewriting("change")]) as gate:
        assert gate.ask(COMPLETION).json() == REPLY
        assert gate.upstream.requests[0].json() == {"model": "m", "prompt": "new"}


def test_the_policy_scans_what_a_plugin_made() -> None:
    with gateway(plugins=[_GUARD, rewriting("smuggle")]) as gate:
        refused(gate.ask(COMPLETION), 400, "content_policy_violation")
        assert gate.upstream.requests == []


def test_the_policy_redacts_what_is_sent() -> None:
    policy = {"request": {"card": "redact"}}
    with gateway(plugins=[_GUARD], policy=policy) as gate:
        assert gate.ask({**COMPLETION, "prompt": [f"pay {_CARD}"]}).status == 200
        assert gate.upstream.requests[0].json()["prompt"] == ["pay [CARD]"]


def test_a_plugin_that_refuses_to_rewrite_denies() -> None:
    with gateway(plugins=[rewriting("deny")]) as gate:
        refused(gate.ask(COMPLETION), 400, "no_rewrite")
        assert gate.record().denied_by == "rewriter"


@pytest.mark.parametrize("what", ["break", "unsendable", "infinite", "identify"])
def test_a_plugin_that_breaks_a_call_denies_it(what: str) -> None:
    with gateway(plugins=[rewriting(what)]) as gate:
        headers = [JSON] if what == "identify" else bearer()
        refused(gate.ask(COMPLETION, headers), 500)
        assert gate.record().outcome == "denied"
        assert gate.upstream.requests == []


def test_the_list_of_models_needs_no_check_of_a_body() -> None:
    with gateway(plugins=[rewriting("change")]) as gate:
        assert gate.ask(path="/v1/models", method="GET").status == 200
        assert gate.upstream.requests[0].body == b""


def test_without_a_key_nobody_is_served_unless_the_operator_names_them() -> None:
    for anonymous, status in ((None, 401), ("guest", 200)):
        access = {} if anonymous is None else {"anonymous": anonymous}
        with gateway(access=access) as gate:
            assert gate.ask(COMPLETION, [JSON]).status == status
            assert gate.record().principal == anonymous
            refused(gate.ask(COMPLETION, bearer("wrong-key-0123456789")), 401, "invalid_api_key")


@pytest.mark.parametrize("key", ["a b", "caller\xe9", "x" * 8193])
def test_no_malformed_key_is_asked_about(key: str) -> None:
    with gateway(access={"anonymous": "guest"}) as gate:
        refused(gate.ask(COMPLETION, bearer(key)), 401, "invalid_api_key")
        assert gate.record().verdicts == ()


def test_a_malformed_key_for_the_upstream_is_401_as_well() -> None:
    with gateway(upstream={"pass_caller_credential": True}) as gate:
        headers = [*bearer("own\xe9key"), ("X-Portkey-Api-Key", "caller-key-0123456789")]
        refused(gate.ask(COMPLETION, headers), 401, "invalid_api_key")
        assert gate.upstream.requests == []


def test_a_query_is_refused() -> None:
    with gateway() as gate:
        error = refused(gate.ask(COMPLETION, path="/v1/completions?stream=true&x"), 400)
        assert error["param"] == "stream"


def test_an_endpoint_without_a_body_takes_none() -> None:
    with gateway() as gate:
        refused(gate.ask(b"{}", path="/v1/models", method="GET"), 400, "unexpected_body")


def test_a_model_of_a_wrong_type_is_no_name_in_the_record() -> None:
    with gateway() as gate:
        refused(gate.ask({"model": ["m"], "prompt": "p"}), 400)
        assert gate.record().model is None


@pytest.mark.parametrize(("text", "count"), [("3", 3), ("-1", 0), ("1000", 0), ("x", 0), ("१", 0)])
def test_the_retry_count_is_a_small_number_or_nothing(text: str, count: int) -> None:
    with gateway() as gate:
        header = ("x-stainless-retry-count", text.encode().decode("latin-1"))
        gate.ask(COMPLETION, [*bearer(), header])
        assert gate.record().retry_count == count


def test_content_that_cannot_be_scanned_is_named() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:x"}}
    chat = {"model": "m", "messages": [{"role": "user", "content": [image]}]}
    with gateway() as gate:
        error = refused(gate.ask(chat, path="/v1/chat/completions"), 400, "not_scannable")
        assert error["param"] == "messages[0].content[0]"
