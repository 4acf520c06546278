"""A stream is cut into the same events wherever the network cut it, and no byte is lost."""

from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.errors import UpstreamError
from proxy.sse import DONE, Event, EventReader, EventTooLarge, encode_event

patient = settings(deadline=None)  # the machine may be busy

LIMIT = 1 << 20
fragments = st.sampled_from(
    [b"\n", b"\r", b"\r\n", b"\n\n", b"\r\n\r\n", b"data:", b"data: ", b"data", b": ping", b"event: x",
     b"x", b" ", "é€😀".encode(), "\u2028\u0085\x0b\x1c".encode(), b"\xef\xbb\xbf", b'{"a":1}', b"[DONE]"]
)  # fmt: skip
streams = st.lists(fragments, max_size=14).map(b"".join)


def read(pieces: list[bytes], limit: int = LIMIT) -> tuple[list[Event], bytes]:
    reader = EventReader(limit)
    events = [event for piece in pieces for event in reader.feed(piece)]
    return events, reader.rest()


def payloads(data: bytes) -> list[bytes | None]:
    return [event.data for event in read([data])[0]]


@patient
@given(streams, st.lists(st.integers(0, 200), max_size=6))
@example(b"data: x\r\n\r\ndata: y\n\n", [9, 10])
def test_events_are_the_same_for_every_cut_and_no_byte_is_lost(
    data: bytes, cuts: list[int]
) -> None:
    whole, rest = read([data])
    edges = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    pieces = [data[a:b] for a, b in pairwise(edges)]
    assert read(pieces) == (whole, rest)
    assert read([data[i : i + 1] for i in range(len(data))]) == (whole, rest)
    assert b"".join(event.raw for event in whole) + rest == data


@patient
@given(streams)
def test_what_is_left_holds_no_whole_event(data: bytes) -> None:
    rest = read([data])[1]
    assert b"\n\n" not in rest
    assert b"\r\r" not in rest
    assert b"\n\r\n" not in rest


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"data: x\n\n", [b"x"]),
        (b"data:x\n\n", [b"x"]),
        (b"data:  x\n\n", [b" x"]),
        (b"data: x\r\n\r\n", [b"x"]),
        (b"data: x\r\r", [b"x"]),
        (b"data: x\r\r\ndata: y\n\n", [b"x", b"y"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data: a\r\ndata:\r\ndata: b\r\n\r\n", [b"a\n\nb"]),
        (b"data\n\n", [b""]),
        (b"datax: 1\n\n", [None]),
        (b": ping\n\n", [None]),
        (b": ping\ndata: x\n\n", [b"x"]),
        (b"event: e\nid: 1\ndata: x\nretry: 3\n\n", [b"x"]),
        (b"data: null\n\n", [b"null"]),
        (b"\xef\xbb\xbfdata: x\n\ndata: y\n\n", [b"x", b"y"]),
        (b"data: y\n\n\xef\xbb\xbfdata: x\n\n", [b"y", None]),
        (b"\n\ndata: x\n\n", [None, None, b"x"]),
        (b"\r\ndata: x\n\n", [None, b"x"]),
        (b"data: x\n\rdata: y\n\n", [b"x", b"y"]),
        (b"data: [DONE]\n\n", [DONE]),
    ],
)
def test_fields_are_read_as_the_standard_says(data: bytes, expected: list[bytes | None]) -> None:
    assert payloads(data) == expected


@pytest.mark.parametrize("separator", ["\u2028", "\u0085", "\x0b", "\x0c", "\x1c"])
def test_separators_of_text_split_nothing(separator: str) -> None:
    assert payloads(f"data: a{separator}b\n\n".encode()) == [f"a{separator}b".encode()]


def test_an_event_is_given_at_the_last_byte_of_its_blank_line() -> None:
    reader = EventReader(LIMIT)
    assert reader.feed(b"data: x\r\n\r") == []
    assert reader.rest() == b"data: x\r\n\r"
    assert reader.feed(b"\n") == [Event(b"data: x\r\n\r\n", b"x")]
    assert reader.feed(b"data: y\r\r") == [Event(b"data: y\r\r", b"y")]
    assert reader.feed(b"\ndata: z\n\n") == [Event(b"\ndata: z\n\n", b"z")]
    assert reader.rest() == b""


@pytest.mark.parametrize("size", [1, 7, 64, 4096])
def test_an_event_beyond_the_limit_is_refused(size: int) -> None:
    data = b"data: " + b"x" * 1000 + b"\n\n"
    pieces = [data[i : i + size] for i in range(0, len(data), size)]
    assert len(read(pieces, limit=len(data))[0]) == 1
    with pytest.raises(EventTooLarge, match="longer than 100 bytes") as caught:
        read(pieces, limit=100)
    assert isinstance(caught.value, UpstreamError)
    assert caught.value.kind == "too_large"


def test_a_stream_without_any_line_end_is_held_only_up_to_the_limit() -> None:
    reader = EventReader(1000)
    for _ in range(15):
        assert reader.feed(b"x" * 64) == []
    with pytest.raises(EventTooLarge):
        reader.feed(b"x" * 64)


def test_many_small_events_keep_nothing() -> None:
    reader = EventReader(100)
    count = sum(len(reader.feed(b": ping\n\n" * 10)) for _ in range(1000))
    assert count == 10_000
    assert reader.rest() == b""


def test_an_encoded_event_reads_back() -> None:
    assert read([encode_event(b'{"a":1}')]) == ([Event(b'data: {"a":1}\n\n', b'{"a":1}')], b"")
