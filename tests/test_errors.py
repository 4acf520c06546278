"""Errors have the envelope of the OpenAI API and tell its clients whether to try again."""

import json

import pytest

from proxy.errors import (
    ApiError,
    ConfigError,
    InvalidRequest,
    OutgateError,
    Unauthenticated,
    UpstreamError,
    as_api_error,
    nearest,
    outcome_of,
)

KINDS = [
    "resolve", "refused_address", "connect", "tls", "timeout_connect", "timeout_first_byte",
    "timeout_idle", "deadline", "client_gone", "draining", "protocol", "redirect", "cut",
    "too_large", "encoding",
]  # fmt: skip


@pytest.mark.parametrize(
    "error",
    [
        ApiError("m"),
        InvalidRequest("m", param="n", code="c"),
        Unauthenticated(),
        *(as_api_error(UpstreamError(kind, "10.0.0.1 sk-1")) for kind in KINDS),
    ],
)
def test_the_envelope_has_all_four_fields(error: ApiError) -> None:
    told = json.loads(json.dumps(error.body()))["error"]
    assert set(told) == {"message", "type", "param", "code"}
    assert isinstance(told["message"], str)
    assert isinstance(told["type"], str)
    assert told["code"] is None or isinstance(told["code"], str)
    assert 400 <= error.status <= 599


def test_every_error_has_one_root() -> None:
    for error in (ConfigError("x"), ApiError("x"), Unauthenticated(), UpstreamError("cut", "x")):
        assert isinstance(error, OutgateError)


def test_an_invalid_request_is_a_400_that_is_not_sent_again() -> None:
    error = InvalidRequest("Too many.", param="stop")
    assert (error.status, error.type, error.code) == (400, "invalid_request_error", None)
    assert error.body()["error"]["param"] == "stop"
    assert error.headers() == {"x-should-retry": "false"}
    assert str(error) == "Too many."


def test_a_wrong_credential_always_gets_the_same_answer() -> None:
    assert Unauthenticated().body() == Unauthenticated().body()
    assert (Unauthenticated().status, Unauthenticated().code) == (401, "invalid_api_key")


def test_what_waiting_cures_says_how_long() -> None:
    error = ApiError("Busy.", status=503, type="server_error", code="overloaded", retry_after=1)
    assert error.headers() == {"retry-after": "1"}
    assert (error.status, error.code) == (503, "overloaded")


def test_an_upstream_error_names_its_kind() -> None:
    error = UpstreamError("cut", "after 10 bytes", bytes_received=True)
    assert str(error) == "cut: after 10 bytes"
    assert (error.kind, error.detail, error.bytes_received) == ("cut", "after 10 bytes", True)


@pytest.mark.parametrize("kind", KINDS)
def test_the_caller_is_told_nothing_of_the_inner_network(kind: str) -> None:
    told = as_api_error(UpstreamError(kind, "10.0.0.1 sk-1"))
    assert "10.0.0.1" not in str(told.body())
    assert told.status in {499, 502, 503, 504}


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [("client_gone", "client_gone"), ("draining", "denied"), ("tls", "upstream_error")],
)
def test_a_failure_says_how_the_call_ended(kind: str, outcome: str) -> None:
    assert outcome_of(UpstreamError(kind, "x")) == outcome


def test_the_nearest_name_is_offered_only_if_it_is_near() -> None:
    assert nearest("max_token", ["max_tokens", "model"]) == " Did you mean 'max_tokens'?"
    assert nearest("zzz", ["max_tokens"]) == ""
