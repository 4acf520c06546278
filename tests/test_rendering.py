import json

from hypothesis import given
from hypothesis import strategies as st

from proxy import record_line
from tests.records import full, record

TEXT = st.text(alphabet=st.characters(exclude_categories=()), max_size=50)


@given(model=TEXT, notes=st.dictionaries(TEXT, TEXT | st.floats() | st.integers(), max_size=5))
def test_whatever_is_in_a_record_it_is_one_line_of_strict_json(
    model: str, notes: dict[str, object]
) -> None:
    line = record_line(record(model=model, notes=notes))
    assert line.isascii()
    assert line.count(b"\n") == 1
    assert line.endswith(b"}\n")

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    assert json.loads(line, parse_constant=refuse)["id"] == "req_1"


def test_everything_that_is_known_is_there() -> None:
    shown = json.loads(record_line(full()))
    assert shown["usage"] == {
        "prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16, "cached_tokens": 3,
    }  # fmt: skip
    assert shown["findings"][0]["kind"] == "email"
    assert shown["metadata"] == {"team": "red"}
    assert "clipped" not in shown


def test_what_is_cut_says_so() -> None:
    shown = json.loads(record_line(record(model="m" * 600)))
    assert shown["clipped"] is True
    assert shown["model"] == "m" * 512 + "...(+88)"
