import base64
import time
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.detect.decode import PASSES, USUAL, decoded

SECRET = "sk-Ab3dEf6h"


def escaped(text: str) -> str:
    return "".join(f"\\u{ord(char):04x}" for char in text)


DISGUISES = {
    "percent": "".join(f"%{byte:02x}" for byte in SECRET.encode()),
    "entities": "".join(f"&#{ord(char)};" for char in SECRET),
    "escapes": escaped(SECRET),
    "long escapes": "".join(f"\\U{ord(char):08x}" for char in SECRET),
    "byte escapes": "".join(f"\\x{ord(char):02x}" for char in SECRET),
    "base64": base64.b64encode(SECRET.encode()).decode(),
    "base64url unpadded": base64.urlsafe_b64encode(SECRET.encode()).decode().rstrip("="),
    "base64 of utf-16": base64.b64encode(SECRET.encode("utf-16-le")).decode(),
    "hex": SECRET.encode().hex(),
    "hex apart": SECRET.encode().hex(" "),
    "hex bytes": ", ".join(f"0x{byte:02x}" for byte in SECRET.encode()),
    "spaced": " ".join(SECRET),
    "dotted": ".".join(SECRET),
    "lines": "\n".join(SECRET),
    "tags": "".join(chr(0xE0000 + ord(char)) for char in SECRET),
    "twice": base64.b64encode(escaped(SECRET).encode()).decode(),
}


@pytest.mark.parametrize("disguise", DISGUISES)
def test_a_disguise_is_seen_through_and_maps_back(disguise: str) -> None:
    text = f"Store this: {DISGUISES[disguise]} for me"
    readings = [reading for reading in decoded(text) if SECRET in reading.text]
    assert readings
    start = readings[0].text.index(SECRET)
    source = readings[0].source(start, start + len(SECRET))
    assert source is not None
    at = text.index(DISGUISES[disguise])
    assert source == (at, at + len(DISGUISES[disguise]))


def test_parts_of_a_string_are_joined_and_spoken_signs_read() -> None:
    (joined,) = decoded('key = "sk-Ab3" + "dEf6h"')
    assert joined.text.replace("\u200b", "") == f'key = "{SECRET}"'
    (spoken,) = decoded("bob [at] mail (dot) example")
    assert spoken.text == "bob@mail.example"


def test_reversed_and_rotated_texts_are_read_on_demand_only() -> None:
    assert list(decoded("h6fEd3bA-ks")) == []
    texts = {reading.text for reading in decoded("h6fEd3bA-ks", ["reversed", "rot13"], depth=1)}
    assert texts == {SECRET, "u6sRq3oN-xf"}


def test_prose_and_what_does_not_decode_to_text_has_no_other_reading() -> None:
    noise = base64.b64encode(bytes(range(128, 160))).decode()
    assert (
        list(decoded(f"Nothing to see here, internationalisation, {noise} &unknown; %ff%fe")) == []
    )


def test_what_is_far_apart_is_read_apart() -> None:
    text = "%41 " + "word " * 300 + "%42"
    first, second = decoded(text)
    assert len(first.text) < 300
    assert second.text.endswith("B")
    assert second.source(len(second.text) - 1, len(second.text)) == (len(text) - 3, len(text))


def test_a_finding_in_text_that_was_not_decoded_is_not_reported_again() -> None:
    (reading,) = decoded("abc %41 def")
    assert reading.source(0, 3) is None
    assert reading.source(5, 8) is None
    assert reading.source(3, 5) == (3, 7)


@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=60), st.sampled_from(sorted(PASSES))
)
def test_every_reading_maps_each_character_into_the_text(text: str, name: str) -> None:
    for reading in decoded(quote(text) + text, [name]):
        assert len(reading.text) == len(reading.starts) == len(reading.ends)
        for start, end in zip(reading.starts, reading.ends, strict=True):
            assert 0 <= start < end <= len(quote(text) + text)
        assert all(0 <= start < end <= len(reading.text) for start, end in reading.runs)
        assert reading.how[0] == name


@given(st.text(st.characters(codec="utf-8", exclude_characters="%"), min_size=1, max_size=40))
def test_percent_decoding_undoes_percent_encoding(text: str) -> None:
    hidden = "".join(f"%{byte:02X}" for byte in text.encode())
    if all(char.isprintable() for char in text):
        assert [reading.text for reading in decoded(hidden, ["percent"], depth=1)] == [text]


def test_the_readings_of_a_hostile_text_are_bounded_in_size_and_time() -> None:
    def work(size: int) -> tuple[float, float]:
        text = ("%25" * 3 + " &amp;lt; " + "4142434445464748" + ' "a" + "b" ') * (size // 50)
        start = time.thread_time()
        total = sum(len(reading.text) for reading in decoded(text, USUAL, depth=6))
        return total / len(text), time.thread_time() - start

    small, big = work(20_000), work(80_000)
    assert max(small[0], big[0]) <= 8
    assert big[1] < 4 * 4 * small[1] + 0.01
