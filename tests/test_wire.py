import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import Secret, wire
from proxy.errors import ApiError, InvalidRequest, Unauthenticated


def environ(body: bytes = b"", length: str | None = None, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"wsgi.input": io.BytesIO(body), **more}
    return found if length is None else {**found, "CONTENT_LENGTH": length}


class Failing:
    """A body whose reading fails as a server's does."""

    def read(self, size: int) -> bytes:
        raise OSError(size)


def code_of(error: pytest.ExceptionInfo[ApiError]) -> tuple[int, str | None]:
    return error.value.status, error.value.code


def test_headers_are_read_by_their_lower_case_names() -> None:
    found = wire.read_headers(
        {"HTTP_X_A": "1", "CONTENT_TYPE": "application/json", "PATH_INFO": "/", "HTTP_COOKIE": "c"}
    )
    assert found == {"x-a": "1", "cookie": "c", "content-type": "application/json"}
    assert wire.visible({**found, "authorization": "k", "proxy-authorization": "k"}) == {
        "x-a": "1",
        "content-type": "application/json",
    }


def test_a_comma_where_none_belongs_is_a_header_sent_twice() -> None:
    with pytest.raises(InvalidRequest) as error:
        wire.read_headers({"CONTENT_TYPE": "a,b"})
    assert code_of(error) == (400, "duplicate_header")


@pytest.mark.parametrize("name", ["HTTP_AUTHORIZATION", "HTTP_X_API_KEY", "HTTP_X_PORTKEY_API_KEY"])
def test_a_credential_that_was_sent_twice_is_none(name: str) -> None:
    with pytest.raises(Unauthenticated):
        wire.read_headers({name: "a,b"})


@pytest.mark.parametrize(
    ("headers", "caller", "provider"),
    [
        ({}, None, None),
        ({"authorization": "Bearer k"}, "k", None),
        ({"authorization": "bearer   k"}, "k", None),
        ({"authorization": "BEARER k "}, "k", None),
        ({"authorization": "k"}, "k", None),
        ({"authorization": "Bearer"}, None, None),
        ({"authorization": "Bearerk"}, "Bearerk", None),
        ({"authorization": "Bearer OPENAI_API_KEY"}, None, None),
        ({"authorization": "Bearer undefined", "x-portkey-api-key": "k"}, "k", None),
        ({"authorization": "Bearer k", "x-portkey-api-key": ""}, "k", None),
        ({"authorization": "Bearer k", "x-api-key": "k", "api-key": "k"}, "k", None),
        ({"authorization": "p", "x-portkey-api-key": "k"}, "k", "p"),
    ],
)
def test_credentials_are_read_from_every_header_an_sdk_uses(
    headers: dict[str, str], caller: str | None, provider: str | None
) -> None:
    found = wire.read_credentials(headers)
    assert [found.caller, found.provider] == [key and Secret(key) for key in (caller, provider)]


@pytest.mark.parametrize("other", ["authorization", "x-portkey-api-key"])
def test_two_different_keys_are_ambiguous(other: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        wire.read_credentials({"x-api-key": "one-key", other: "two-key"})
    assert code_of(error) == (400, "ambiguous_credentials")
    assert "one-key" not in error.value.message


@pytest.mark.parametrize("text", ["a b", "é", "a\x7f", "a\0", "a\n", "k" * 8193])
def test_what_could_be_no_key_is_seen(text: str) -> None:
    assert not wire.well_formed(Secret(text))
    assert wire.well_formed(Secret("k" * 8192))


@pytest.mark.parametrize(
    "kind",
    ["application/json", "Application/JSON ; Charset=UTF-8", 'application/json;charset="utf-8"'],
)
def test_json_in_utf_8_is_taken(kind: str) -> None:
    wire.check_media({"content-type": kind, "content-encoding": "Identity"})


@pytest.mark.parametrize(
    ("length", "status"),
    [("5", 200), ("6", 413), ("9" * 18, 413), ("9" * 5000, 400), ("-1", 400), ("५", 400)],
)
def test_an_announced_length_is_checked_before_reading(length: str, status: int) -> None:
    if status == 200:
        assert wire.read_body(environ(b"12345 more", length), 5) == b"12345"
        return
    with pytest.raises(ApiError) as error:
        wire.read_body({"wsgi.input": None, "CONTENT_LENGTH": length}, 5)
    assert error.value.status == status


def test_fewer_bytes_than_announced_are_no_body() -> None:
    for stream in (io.BytesIO(b"1234"), Failing()):
        with pytest.raises(InvalidRequest) as error:
            wire.read_body({"wsgi.input": stream, "CONTENT_LENGTH": "5"}, 9)
        assert code_of(error) == (400, "incomplete_body")


def test_a_body_without_length_is_read_only_where_the_server_ends_it() -> None:
    assert wire.read_body(environ(b"12345"), 9) == b""
    ended: Any = {"wsgi.input_terminated": True}
    assert wire.read_body(environ(b"12345", **ended), 5) == b"12345"
    with pytest.raises(ApiError) as error:
        wire.read_body(environ(b"123456", **ended), 5)
    assert code_of(error) == (413, "request_too_large")


def test_a_chunked_body_is_not_measured_by_a_length() -> None:
    ended: Any = {"wsgi.input_terminated": True}
    both = environ(b"123", "9", HTTP_TRANSFER_ENCODING="Chunked", **ended)
    assert wire.read_body(both, 9) == b"123"


@given(st.binary(max_size=200_000), st.integers(0, 200_000))
def test_never_more_than_the_limit_is_taken(body: bytes, limit: int) -> None:
    terminated: Any = {"wsgi.input_terminated": True}
    ended = environ(body, **terminated)
    if len(body) <= limit:
        assert wire.read_body(ended, limit) == body
        return
    with pytest.raises(ApiError):
        wire.read_body(ended, limit)


@pytest.mark.parametrize(("query", "param"), [("api-version=1", "api-version"), ("é", None)])
def test_query_parameters_are_refused_by_name(query: str, param: str | None) -> None:
    wire.refuse_query({"QUERY_STRING": ""})
    with pytest.raises(InvalidRequest) as error:
        wire.refuse_query({"QUERY_STRING": query})
    assert error.value.param == param


def test_only_listed_headers_are_passed_on() -> None:
    headers = {"x-a": "1", "x-b": "2"}
    assert wire.passed_on(headers, ("X-A", "x-c")) == {"x-a": "1"}
    with pytest.raises(InvalidRequest) as error:
        wire.passed_on({"x-a": "a\x7f"}, ("x-a",))
    assert code_of(error) == (400, "bad_header")


@pytest.mark.parametrize(
    ("peer", "told", "address"),
    [
        ("127.0.0.1", "203.0.113.7", "203.0.113.7"),
        (
            "127.0.0.1",
            "10.0.0.1, 203.0.113.7",
            "203.0.113.7",
        ),  # what the caller wrote does not count
        ("127.0.0.1", "2001:db8::1", "2001:db8::1"),
        ("127.0.0.1", "203.0.113.7\x1b[2J", "127.0.0.1"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("198.51.100.2", "203.0.113.7", "198.51.100.2"),  # a stranger's word on who it is
    ],
)
def test_only_a_trusted_peer_is_believed_about_the_caller(
    peer: str, told: str, address: str
) -> None:
    environ = {"REMOTE_ADDR": peer, "HTTP_X_FORWARDED_FOR": told}
    assert wire.client_address(environ, ("127.0.0.1",)) == address


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.1", "6.6.6.6", "192.0.2.1"),
        ("127.0.0.1", "6.6.6.6, 10.1.2.3", "10.1.2.3"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.1", "unknown", "127.0.0.1"),
        ("127.0.0.1", "x" * 10_000, "127.0.0.1"),
    ],
)
def test_an_address_is_believed_only_of_the_server_in_front(
    peer: str, forwarded: str, client: str
) -> None:
    found = wire.client_address(
        {"REMOTE_ADDR": peer, "HTTP_X_FORWARDED_FOR": forwarded}, ("127.0.0.1",)
    )
    assert found == client
