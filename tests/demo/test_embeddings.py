import base64
import math
import struct
from typing import Any

import pytest

from proxy.demo import embeddings
from proxy.demo.models import text_model
from proxy.demo.refusals import Refused
from tests.demo.conftest import Site


def ask(**body: Any) -> dict[str, Any]:
    return embeddings.answer({"model": "text-embedding-3-small", "input": "The sea"} | body)


def vectors(**body: Any) -> list[list[float]]:
    return [one["embedding"] for one in ask(**body)["data"]]


def dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("dimensions", [1, 8, 1536])
def test_vectors_have_length_one_and_the_dimensions_asked_for(dimensions: int) -> None:
    [vector] = vectors(dimensions=dimensions)
    assert len(vector) == dimensions
    assert math.isclose(math.hypot(*vector), 1.0, rel_tol=1e-5)


def test_texts_with_common_words_lie_closer_than_others() -> None:
    near, text, far = vectors(input=["the old sea", "the green sea", "bread and apples"])
    assert dot(near, text) > dot(text, far)


def test_base64_holds_the_same_numbers() -> None:
    [packed] = ask(encoding_format="base64", dimensions=9)["data"]
    assert (
        list(struct.unpack("<9f", base64.b64decode(packed["embedding"])))
        == vectors(dimensions=9)[0]
    )


def test_tokens_are_the_same_input_as_their_text() -> None:
    numbers = list(text_model().tokenizer.encode("The sea"))
    assert vectors(input=numbers) == vectors() == vectors(input=[numbers])


def test_usage_counts_the_tokens_of_every_input() -> None:
    assert ask(input=["The sea", "The"])["usage"] == {"prompt_tokens": 3, "total_tokens": 3}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": None}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": [""]}, "input"),
        ({"input": {"a": 1}}, "input"),
        ({"input": ["a", 1]}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": [-4]}, "input"),
        ({"input": "☃" * 8193}, "input"),
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": 1537}, "dimensions"),
        ({"encoding_format": "int8"}, "encoding_format"),
    ],
)
def test_a_wrong_value_is_refused_by_name(body: dict[str, Any], param: str) -> None:
    with pytest.raises(Refused) as refused:
        ask(**body)
    assert (refused.value.status, refused.value.param) == (400, param)


def test_the_python_client_embeds(site: Site) -> None:
    reply = site.sdk().embeddings.create(model="text-embedding-3-small", input=["a", "b"])
    assert [len(one.embedding) for one in reply.data] == [1536, 1536]
