from typing import Any

import pytest

from proxy import ConfigError
from proxy.testing import harness

ENGLISH = "Please write a short letter to our customers about the new opening hours."
GERMAN = "Bitte schreiben Sie einen kurzen Brief an unsere Kunden über die neuen Öffnungszeiten."
FRENCH = "Veuillez écrire une courte lettre à nos clients au sujet des nouveaux horaires."


def denied(prompt: Any, **options: Any) -> bool:
    return (
        harness("language", **{"allowed": ("en", "de"), **options})
        .completions(prompt=prompt)
        .denied
        is not None
    )


def test_a_language_that_is_not_allowed_is_refused_wherever_it_stands() -> None:
    assert not denied(ENGLISH)
    assert not denied([ENGLISH, GERMAN])
    assert denied([ENGLISH, FRENCH])
    guard = harness("language", allowed=("en",))
    parts = [{"type": "text", "text": FRENCH}]
    result = guard.chat(messages=[{"role": "user", "content": parts}])
    assert (result.denied.code, result.denied.param) == ("language_not_allowed", "messages")  # type: ignore[union-attr]
    assert guard.call("embeddings", input=FRENCH).denied


def test_what_people_did_not_write_may_be_in_any_language() -> None:
    messages = [
        {"role": "assistant", "content": FRENCH},
        {"role": "system", "content": FRENCH},
        {"role": "user", "content": ENGLISH},
    ]
    assert harness("language", allowed=("en",)).chat(messages=messages).denied is None


def test_a_short_text_says_too_little() -> None:
    assert not denied("Oui, bien sûr")
    assert denied("Oui, bien sûr, avec plaisir", shortest=5)


def test_an_unsure_text_passes_unless_the_operator_says_otherwise() -> None:
    text = "x1 = foo(bar); qux(zap, 17); kol mip vaf dep sut rin"
    assert not denied(text, confidence=1.0)
    assert denied(text, confidence=1.0, unsure="refuse", allowed=("de",))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"allowed": ("english",)}, "not known; there are: "),
        ({"allowed": ()}, "write e.g. allowed"),
        ({"unsure": "maybe"}, "write e.g. allowed"),
        ({"confidence": 2.0}, "write e.g. allowed"),
    ],
)
def test_an_option_that_cannot_be_meant_stops_the_start(
    options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        harness("language", **{"allowed": ("en",), **options})
