"""The properties hold for what is drawn at random and near their seeds; ``make fuzz`` searches further."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy import ConfigError
from proxy.config import Config, parse
from tests.fuzz.properties import PROPERTIES, SEEDS
from tests.pages import DOCS

NAMES = sorted(PROPERTIES)


def _words(page: str) -> list[str]:
    """The names that a page of the documentation has in the first column of a table, or before an equals sign."""
    return re.findall(
        r"^\|? ?`?([a-z_]+)`? (?:\||=)", (DOCS / f"{page}.md").read_text(), re.MULTILINE
    )


def near(seed: bytes) -> st.SearchStrategy[bytes]:
    """A seed in which a stretch is replaced."""
    place = st.integers(0, len(seed))
    return st.builds(
        lambda at, end, new: seed[:at] + new + seed[max(at, end) :],
        place,
        place,
        st.binary(max_size=8),
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_seeds_are_fine(name: str) -> None:
    for seed in SEEDS[name]:
        PROPERTIES[name](seed)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=200)
@given(data=st.data())
def test_a_property_holds_for_any_bytes(name: str, data: st.DataObject) -> None:
    drawn = st.one_of(st.binary(max_size=200), *map(near, SEEDS[name]))
    PROPERTIES[name](data.draw(drawn))


#: Every name that the tables of the configuration have, so that values get to where they are read.
_WORDS = sorted(
    {word for page in ("configuration", "detection", "audit") for word in _words(page)}
    | {"a", "*", "pii.*", "openai", "mask", "deny", "1", "https://h/v1", "a\nb", "\x00", "/x"}
)
_SCALARS = st.one_of(
    st.sampled_from(_WORDS),
    st.integers(-2, 2**70),
    st.floats(),
    st.booleans(),
    st.dates(),
    st.datetimes(),
    st.text(max_size=3),
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_WORDS), inner, max_size=4)
    ),
    max_leaves=8,
)


@settings(max_examples=600)
@given(st.dictionaries(st.sampled_from(sorted(Config.__struct_fields__)), _VALUES, max_size=3))
def test_a_configuration_of_real_names_and_any_values_is_taken_or_refused(
    document: dict[str, Any],
) -> None:
    try:
        parse(document, "outgate.toml")
    except ConfigError as error:
        assert str(error).startswith("outgate.toml")  # noqa: PT017 - both ends are fine


@pytest.mark.parametrize("name", ["sse", "redactor"])
def test_every_seed_cut_short_anywhere_is_fine(name: str) -> None:
    for seed in SEEDS[name]:
        for end in range(len(seed)):
            PROPERTIES[name](seed[:end])
