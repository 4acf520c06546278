"""The strict reader takes what JSON is, refuses what readers disagree about, and writes exactly."""

import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import InvalidRequest
from proxy.frozen import FrozenDict, FrozenList
from proxy.jsonio import decode, encode
from proxy.secret import Secret

patient = settings(deadline=None)  # the machine may be busy

DEPTH = 64
numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
strings = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
values = st.recursive(
    st.none() | st.booleans() | numbers | strings,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(strings, inner, max_size=5),
    max_leaves=20,
)


def refusal(data: bytes, depth: int = DEPTH) -> str:
    with pytest.raises(InvalidRequest) as caught:
        decode(data, depth=depth)
    assert caught.value.status == 400
    assert caught.value.type == "invalid_request_error"
    return caught.value.message


def containers(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        yield value
        for item in value.values() if isinstance(value, dict) else value:
            yield from containers(item)


@patient
@given(values, st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_it_agrees_with_the_standard_library_on_valid_json(
    value: Any, ascii_only: bool, indent: int | str | None
) -> None:
    data = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    assert decode(data, depth=DEPTH) == json.loads(data) == value


@patient
@given(values)
def test_what_is_written_reads_back_exactly(value: Any) -> None:
    data = encode(value)
    again = decode(data, depth=DEPTH)
    assert again == value
    assert encode(again) == data
    assert repr(json.loads(data)) == repr(json.loads(json.dumps(value)))


@patient
@given(values)
def test_everything_in_the_result_is_frozen(value: Any) -> None:
    for container in containers(decode(encode(value), depth=DEPTH)):
        assert type(container) in (FrozenDict, FrozenList)


@patient
@given(st.binary(max_size=40))
def test_any_bytes_are_either_read_as_the_standard_library_does_or_refused(data: bytes) -> None:
    try:
        value = decode(data, depth=DEPTH)
    except InvalidRequest:
        return
    assert value == json.loads(data)


PIECES = [
    b"", b" ", b"[", b"]", b"{", b"}", b",", b":", b'"', b"'", b"a", b"1", b"-", b"+", b"0", b".", b"e",
    b"nul", b"True", b"NaN", b"\\", b"/", b"\x00", b"\x1f", b"\x7f", b"\xff", b"//c", b"/**/", b"\xa0",
]  # fmt: skip
BROKEN = sorted(
    {before + middle + after for before in PIECES for middle in PIECES for after in PIECES[:18]}
)
HAND_WRITTEN = [
    b"[1,]", b"[,1]", b"[1 2]", b"[1", b"1]", b"{}}", b"[]]", b'{"a"}', b'{"a":}', b'{"a":1,}', b"{a:1}",
    b"{1:1}", b"{'a':1}", b'{"a":1 "b":2}', b'{"a"::1}', b'{"a":1,,"b":2}', b'{"a" b}', b'{"a":1}x',
    b'{"a":1}{"a":1}', b"{}[]", b"01", b"-01", b"+1", b"1.", b".5", b"-", b"1e", b"1e+", b"0x1", b"1_0",
    b"1,0", b"--1", b"1.2.3", b"2.e3", b"0e", b"-Infinity", b"Infinity", b"NaN", b"-NaN", b"nan", b"inf",
    b"1e999", b"-1e999", b"1" + b"0" * 400 + b".0", b"TRUE", b"True", b"nulll", b"undefined", b'"abc',
    b'"\t"', b'"\n"', b'"a\x00b"', b'"\x1f"', b'"\\x41"', b'"\\u12"', b'"\\u12g4"', b'"\\u 123"',
    b'"\\U0041"', b'"\\a"', b'"\\"', b'"\\\x00"', b"[1]//c", b"/*c*/[1]", b"#c\n1", b"<a/>", b"a=1&b=2",
    b"\x0c1", b"\x0b1", b"\xc2\xa01", b"\xe2\x80\x891", b"[1]\x00", b"\x00", b"[\xc2\xa01]", b"---\na: 1",
    "\u0661".encode(), b"1\xd9\xa1", "[\u200b1]".encode(),
]  # fmt: skip


def is_json(data: bytes) -> bool:
    """The standard library's opinion, without its extras."""

    def refuse(_: str) -> None:
        raise ValueError

    try:
        json.loads(data.decode("utf-8"), parse_constant=refuse)
    except ValueError:
        return False
    return True


def test_every_text_that_is_no_json_is_refused() -> None:
    invalid = [data for data in BROKEN if not is_json(data)]
    assert len(invalid) > 10_000
    for data in invalid:
        assert "Please" in refusal(data)


@pytest.mark.parametrize("data", HAND_WRITTEN, ids=range(len(HAND_WRITTEN)))
def test_broken_json_is_refused(data: bytes) -> None:
    assert refusal(data).startswith("The request body cannot be read: ")


@pytest.mark.parametrize(
    "data",
    [
        b'{"prompt":"clean","prompt":"SECRET"}',
        b'{"prompt":"clean","\\u0070rompt":"SECRET"}',
        b'{"a":[{"b":1,"b":1}]}',
        b'{"":1,"":2}',
        b'{"a":[],"a":[]}',
    ],
)
def test_a_name_twice_in_an_object_is_refused(data: bytes) -> None:
    message = refusal(data)
    assert "same name twice" in message
    assert "SECRET" not in message


def test_names_that_differ_only_in_case_are_two_names() -> None:
    assert decode(b'{"a":1,"A":2}', depth=1) == {"a": 1, "A": 2}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"NaN", "NaN is not JSON"),
        (b'{"a":-Infinity}', "-Infinity is not JSON"),
        (b"[1e999]", "larger than a double"),
        (b"9" * 5000, "64 bits"),
        (str(2**64).encode(), "64 bits"),
        (str(-(2**63) - 1).encode(), "64 bits"),
        (b"-" + b"9" * 19, "64 bits"),
        (b"", "empty"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        ('{"a":1}'.encode("utf-16"), "UTF-16"),
        ('{"a":1}'.encode("utf-16-be"), "UTF-16"),
        ('{"a":1}'.encode("utf-16-le"), "UTF-16"),
        ('{"a":1}'.encode("utf-32"), "UTF-32"),
        ('{"a":1}'.encode("utf-32-be"), "UTF-32"),
        (b'"\xed\xa0\x80"', "byte 1 is not valid UTF-8"),
        (b'"\xc0\xaf"', "not valid UTF-8"),
        (b'"\xff"', "not valid UTF-8"),
        (b'"\xf4\x90\x80\x80"', "not valid UTF-8"),
        (b'"\xe2\x82', "not valid UTF-8"),
        (b'"\\ud800"', "half a character"),
        (b'{"\\uDC00":1}', "half a character"),
        (b'["\\ud83d \\ude00"]', "half a character"),
        (b'"\\ude00\\ud83d"', "half a character"),
        (b'{"a" 1}', "Expecting ':' delimiter at line 1, column 6"),
    ],
)
def test_what_readers_disagree_about_is_refused_and_the_way_out_told(
    data: bytes, reason: str
) -> None:
    message = refusal(data)
    assert reason in message
    assert "Please" in message


@pytest.mark.parametrize(
    "number", [2**53 + 1, 2**63, 2**64 - 1, -(2**63), 10**18, -0, -(2**53) - 1]
)
def test_integers_of_64_bits_are_kept_exactly(number: int) -> None:
    data = str(number).encode()
    assert decode(data, depth=0) == number
    assert encode(number) == data


@pytest.mark.parametrize("text", [b"0.1", b"1e-9", b"1.7976931348623157e308", b"-0.0", b"5e-324"])
def test_floats_read_back_the_same(text: bytes) -> None:
    number = decode(text, depth=0)
    assert type(number) is float
    again = decode(encode(number), depth=0)
    assert again == number
    assert math.copysign(1, again) == math.copysign(1, number)


def test_a_pair_of_escapes_is_one_character() -> None:
    assert decode(b'"\\ud83d\\ude00"', depth=0) == "😀"
    assert encode("😀") == '"😀"'.encode()


def test_a_nul_in_a_text_is_passed_and_never_cuts_it() -> None:
    assert decode(b'"a\\u0000b"', depth=0) == "a\x00b"
    assert encode("a\x00b") == b'"a\\u0000b"'


@pytest.mark.parametrize("depth", [1, 2, 64])
def test_nesting_is_allowed_up_to_the_limit_and_refused_beyond(depth: int) -> None:
    for opening, inner, closing in ((b"[", b"", b"]"), (b'{"a":', b"1", b"}")):
        assert decode(opening * depth + inner + closing * depth, depth=depth) is not None
        too_deep = opening * (depth + 1) + inner + closing * (depth + 1)
        assert f"deeper than {depth} levels" in refusal(too_deep, depth)


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'[{"a":' * 30_000,
    ],
    ids=["arrays", "objects", "closed", "both"],
)
def test_absurd_nesting_is_refused_without_a_recursion_error(data: bytes) -> None:
    assert "deeper than 64 levels" in refusal(data)


def test_nesting_beyond_what_python_can_recurse_is_refused_whatever_the_limit() -> None:
    assert "deeper than 1000000 levels" in refusal(b"[" * 100_000, depth=1_000_000)


def test_many_flat_brackets_and_brackets_in_strings_are_no_depth() -> None:
    body = {"m": [{"content": '[[[[ {{{{ \\" \\\\'} for _ in range(200)]}
    assert decode(json.dumps(body).encode(), depth=3) == body
    refusal(json.dumps(body).encode(), depth=2)


@patient
@given(values, st.integers(0, 6))
def test_the_depth_limit_agrees_with_the_nesting_of_the_value(value: Any, depth: int) -> None:
    def nesting(item: Any) -> int:
        if not isinstance(item, dict | list):
            return 0
        inner = item.values() if isinstance(item, dict) else item
        return 1 + max(map(nesting, inner), default=0)

    data = json.dumps(value).encode()
    if nesting(value) <= depth:
        assert decode(data, depth=depth) == value
    else:
        refusal(data, depth)


def test_many_keys_and_long_arrays_are_read() -> None:
    body = {str(number): [number] * 3 for number in range(70_000)}
    assert decode(encode(body), depth=2) == body


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "\ud800", {"\udc00": 1}])
def test_what_json_cannot_say_is_not_written(value: Any) -> None:
    with pytest.raises(ValueError):
        encode(value)


@pytest.mark.parametrize("value", [b"bytes", {1, 2}, object(), Secret("sk-1")])
def test_what_json_does_not_know_is_not_written(value: Any) -> None:
    with pytest.raises(TypeError):
        encode({"a": value})


def test_the_text_is_compact_and_keeps_the_order_of_the_members() -> None:
    assert encode(decode(b'{ "b" : [1, 2.5, null] , "a" : "\xc3\xa9" }', depth=2)) == (
        b'{"b":[1,2.5,null],"a":"\xc3\xa9"}'
    )
