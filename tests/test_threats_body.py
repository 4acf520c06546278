"""Hostile bodies: each is refused in OpenAI's error shape, and nothing of it leaves."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.gateway import COMPLETION, JSON, KEY, Gateway, bearer, encoded, gateway, refused

_MiB = 1024 * 1024
_AUTH = ("Authorization", f"Bearer {KEY}")


@pytest.fixture(scope="module")
def shared() -> Iterator[Gateway]:
    with gateway(limits={"body_bytes": _MiB}) as gate:
        yield gate


@pytest.fixture
def gate(shared: Gateway) -> Iterator[Gateway]:
    """A gateway that must not send anything in this test, and must write one record for each call."""
    shared.upstream.requests.clear()
    shared.records.clear()
    yield shared
    assert shared.upstream.requests == []
    assert {record.outcome for record in shared.records} <= {"denied"}


def with_key(key: str, value: Any = "x") -> bytes:
    return encoded({**COMPLETION, key: value})


def with_value(text: str) -> bytes:
    """A body with a literal that this module's own JSON would not write."""
    return b'{"model":"m","prompt":%b}' % text.encode("utf-8", "surrogatepass")


J1_DUPLICATES = {
    "same name": b'{"model":"m","prompt":"clean","prompt":"SECRET"}',
    "escaped name": b'{"model":"m","prompt":"clean","\\u0070rompt":"SECRET"}',
    "nested": b'{"model":"m","prompt":"p","stream_options":{"a":1,"a":2}}',
    "in an array": b'{"model":"m","prompt":"p","x":[{"a":1,"a":2}]}',
}
J2_LOOKALIKES = {
    name: with_key(name)
    for name in ("PROMPT", "Prompt", "\u017fuffix", "\uff50rompt", "Stream", "mode\u2113", "MODEL")
}
J3_NOT_NUMBERS = {
    text: b'{"model":"m","prompt":"p","temperature":%b}' % text.encode()
    for text in ("NaN", "Infinity", "-Infinity", "1e999", "-1e999")
}
J4_LARGE = {
    "5000 digits": b'{"model":"m","prompt":"p","seed":%b}' % (b"1" * 5000),
    "2**64": b'{"model":"m","prompt":"p","seed":18446744073709551616}',
    "-2**63-1": b'{"model":"m","prompt":"p","seed":-9223372036854775809}',
    "unknown name": b'{"model":"m","prompt":"p","x":18446744073709551616}',
}
J5_DEEP = {
    "arrays": b"[" * 100_000,
    "objects": b'{"a":' * 50_000,
    "balanced": b"[" * 50_000 + b"]" * 50_000,
    "depth 65": with_key("x", json.loads("[" * 64 + "]" * 64)),
}
J6_BROKEN_TEXT = {
    "lone high surrogate": with_value('"\\ud800"'),
    "lone low surrogate": with_value('"\\udc00x"'),
    "surrogate key": b'{"model":"m","prompt":"p","\\ud800":1}',
    "CESU-8": b'{"model":"m","prompt":"\xed\xa0\x80"}',
    "overlong": b'{"model":"m","prompt":"\xc0\xaf"}',
    "FF": b'{"model":"m","prompt":"\xff"}',
    "cut": b'{"model":"m","prompt":"\xe2\x82',
}
J7_ENCODINGS = {
    name: json.dumps(COMPLETION).encode(name)
    for name in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-8-sig")
}
J8_NOT_JSON = {
    "trailing data": encoded(COMPLETION) + b"{}",
    "comment": b'{"model":"m",/* x */"prompt":"p"}',
    "line comment": b'{"model":"m","prompt":"p"}//x',
    "trailing comma": b'{"model":"m","prompt":"p",}',
    "single quotes": b"{'model':'m','prompt':'p'}",
    "control character": with_value('"a\x01b"'),
    "raw newline": with_value('"a\nb"'),
    "raw tab": with_value('"a\tb"'),
    "bare word": b"{model:1}",
    "leading zero": b'{"model":"m","prompt":"p","n":01}',
    "hexadecimal": b'{"model":"m","prompt":"p","n":0x1}',
    "not closed": b'{"model":"m","prompt":"p"',
    "form": b"model=m&prompt=p",
}
J10_NOT_OBJECTS = {
    text or "empty": text.encode()
    for text in ("null", '"x"', '["x"]', "", " ", "1", "true", "[]", "{}")
}
J16_TYPES = {
    f"{name} {json.dumps(value)}": with_key(name, value)
    for name, value in (
        ("n", True),
        ("n", 1.0),
        ("n", "1"),
        ("max_tokens", "16"),
        ("max_tokens", 1.5),
        ("temperature", "1"),
        ("temperature", True),
        ("logprobs", False),
        ("echo", 1),
        ("echo", "true"),
        ("logit_bias", {"50256": "1"}),
        ("logit_bias", [1]),
        ("stop", 1),
        ("stop", ["a", 1]),
        ("user", None),
        ("user", 1),
        ("suffix", ["a"]),
        ("seed", 1e3),
        ("stream_options", True),
        ("stream_options", {"include_usage": "yes"}),
    )
}
J16_REQUIRED = {
    "model absent": b'{"prompt":"p"}',
    "model null": b'{"model":null,"prompt":"p"}',
    "model empty": b'{"model":"","prompt":"p"}',
    "model number": b'{"model":1,"prompt":"p"}',
    "model array": b'{"model":["m"],"prompt":"p"}',
    "prompt absent": b'{"model":"m"}',
    "prompt number": with_value("1"),
    "prompt object": with_value('{"a":"b"}'),
    "prompt mixed": with_value('["a",1]'),
    "prompt of empty tokens": with_value("[[]]"),
    "prompt of mixed lists": with_value('[[1],"a"]'),
    "prompt of objects": with_value('[{"prompt_string":"a"}]'),
}
J17_STREAM: dict[str, bytes] = {
    text: b'{"model":"m","prompt":"p","stream":%b}' % text.encode()
    for text in ('"true"', "1", "0", '""', "[]", "{}", "1.0")
}
ROWS = {
    "J1": J1_DUPLICATES,
    "J2": J2_LOOKALIKES,
    "J3": J3_NOT_NUMBERS,
    "J4": J4_LARGE,
    "J5": J5_DEEP,
    "J6": J6_BROKEN_TEXT,
    "J7": J7_ENCODINGS,
    "J8": J8_NOT_JSON,
    "J10": J10_NOT_OBJECTS,
    "J16": J16_TYPES,
    "J16 required": J16_REQUIRED,
    "J17": J17_STREAM,
}


@pytest.mark.parametrize("row", ROWS)
def test_a_body_that_is_not_understood_is_400_and_goes_nowhere(gate: Gateway, row: str) -> None:
    for name, body in ROWS[row].items():
        error = refused(gate.ask(body), 400)
        assert error["type"] == "invalid_request_error", name
        assert "SECRET" not in error["message"], name
    assert gate.record(len(ROWS[row])).status == 400


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings", "/completions"])
def test_every_endpoint_reads_as_strictly(gate: Gateway, path: str) -> None:
    rows = [J1_DUPLICATES, J3_NOT_NUMBERS, J5_DEEP, J6_BROKEN_TEXT, J7_ENCODINGS, J8_NOT_JSON]
    for body in itertools.chain(*(row.values() for row in rows), J10_NOT_OBJECTS.values()):
        refused(gate.ask(body, path=path), 400)


def test_the_missing_prompt_has_its_own_words(gate: Gateway) -> None:
    error = refused(gate.ask({"model": "m"}), 400, "invalid_prompt")
    assert (error["message"], error["param"]) == ("You must provide a prompt.", "prompt")


@pytest.mark.parametrize(
    "kind",
    [
        None,
        "",
        "text/plain",
        "text/json",
        "application/vnd.x+json",
        "application/json; charset=utf-16",
        "application/json; charset=utf-7",
        "application/json; charset=utf-8; charset=utf-16",
        "application/json; boundary=x",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
    ],
)
def test_j12_another_content_type_is_415(gate: Gateway, kind: str | None) -> None:
    headers = [_AUTH] if kind is None else [_AUTH, ("Content-Type", kind)]
    refused(gate.ask(COMPLETION, headers), 415, "unsupported_media_type")


def test_j12_two_content_types_are_400(gate: Gateway) -> None:
    headers = [_AUTH, ("Content-Type", "application/json, text/plain")]
    refused(gate.ask(COMPLETION, headers), 400, "duplicate_header")


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "deflate", "identity, gzip", "x", ""])
def test_j13_a_compressed_body_is_415_and_not_inflated(gate: Gateway, coding: str) -> None:
    headers = [*bearer(), ("Content-Encoding", coding)]
    refused(gate.ask(b"\x1f\x8b", headers), 415, "unsupported_content_encoding")


def test_j14_a_body_that_ends_early_is_400(gate: Gateway) -> None:
    with gate.connect() as sock:
        lines = ["POST /v1/completions HTTP/1.1", "Host: h", "Content-Type: application/json"]
        lines += [": ".join(_AUTH), "Content-Length: 100", "", ""]
        sock.sendall("\r\n".join(lines).encode() + b'{"a":1}')
        sock.shutdown(1)
        assert b" 400 " in sock.recv(4096).split(b"\r\n")[0]


def test_j15_a_body_above_the_limit_is_413(gate: Gateway) -> None:
    refused(gate.ask(encoded(COMPLETION) + b" " * _MiB), 413, "request_too_large")
    refused(gate.ask(b" " * (_MiB + 1)), 413, "request_too_large")
    refused(gate.ask(with_key("a" * _MiB)), 413, "request_too_large")


def test_j15_a_body_at_the_limit_is_read(gate: Gateway) -> None:
    refused(gate.ask(b"[" + b" " * (_MiB - 2) + b"]"), 400)


def test_a_name_that_would_choose_host_or_key_is_refused(gate: Gateway) -> None:
    for name in ("api_base", "base_url", "api_key", "extra_headers", "extra_body", "API_KEY"):
        refused(gate.ask(with_key(name)), 400, "unknown_parameter")


def test_token_arrays_are_refused_until_the_operator_allows_them(gate: Gateway) -> None:
    for prompt in ([1212, 318], [[1], [2]], [2**53]):
        body = {"model": "m", "prompt": prompt}
        assert refused(gate.ask(body), 400, "token_prompt_not_scannable")["param"] == "prompt"


def test_j9_nul_in_a_prompt_is_kept() -> None:
    with gateway() as gate:
        assert gate.ask({"model": "m", "prompt": "a\0b"}).status == 200
        assert gate.upstream.requests[0].json()["prompt"] == "a\0b"


def test_j11_many_names_and_items_are_read_and_passed_exactly() -> None:
    body = {"model": "m", "prompt": ["x"] * 2048, **{f"key-{i}": i for i in range(70_000)}}
    with gateway() as gate:
        assert gate.ask(body).status == 200
        assert gate.upstream.requests[0].json() == body


def test_j11_many_names_are_400_where_unknown_ones_are_refused() -> None:
    body = {**COMPLETION, **{f"key-{i}": i for i in range(70_000)}}
    with gateway(parameters={"unknown": "refuse"}) as gate:
        refused(gate.ask(body), 400, "unknown_parameter")
        refused(gate.ask(with_key("k" * _MiB)), 400, "unknown_parameter")
        assert gate.upstream.requests == []


def test_j16_ranges_are_refused_only_where_the_upstream_is_strict() -> None:
    for strict, status in ((True, 400), (False, 200)):
        with gateway(upstream={"strict": strict}) as gate:
            for name, value in (("max_tokens", -1), ("n", 129), ("temperature", 3), ("top_k", 1)):
                assert gate.ask(with_key(name, value)).status == status
            assert (gate.upstream.requests == []) is strict


def test_a_wrong_key_is_401_before_the_body_is_looked_at(gate: Gateway) -> None:
    first = gate.ask(b"\xff", [JSON, ("Authorization", "Bearer wrong-key")])
    refused(first, 401, "invalid_api_key")
    for body in (b"[" * 100_000, b"", b"{}"):
        headers = [("Content-Type", "text/plain"), ("Authorization", "Bearer other-key")]
        assert gate.ask(body, headers).body == first.body
