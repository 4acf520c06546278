"""Prompts in token numbers are read, scanned and sent as text or, unchanged, as the numbers that came."""

from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from proxy.config import parse
from proxy.errors import ConfigError
from proxy.tokens import TokenizerEntry, Tokenizers
from tests.gateway import REPLY, document, gateway
from tests.upstream import json_reply

WORDS = ["Hello", "Ġworld", "ĠT-", "1", "2", "<unk>"]
GUARD = [{"use": "regex_guard", "options": {"patterns": {"ticket": "T-[0-9]{2,6}"}}}]


@pytest.fixture
def file(tmp_path: Path) -> str:
    tokenizer = Tokenizer(
        models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    tokenizer.decoder = decoders.ByteLevel()
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    return str(path)


def sent(file: str, prompt: Any, **entry: Any) -> Any:
    """What reaches the upstream of a prompt; the status where nothing does."""
    tokenizers = [{"file": file, **entry}]
    with gateway(json_reply(REPLY), plugins=GUARD, tokenizers=tokenizers) as gate:
        answer = gate.ask({"model": "m", "prompt": prompt})
        if answer.status != 200:
            return answer.json()["error"]["code"]
        return gate.upstream.requests[0].json()["prompt"]


def test_tokens_are_sent_as_the_text_that_was_scanned(file: str) -> None:
    assert sent(file, [0, 1]) == "Hello world"
    assert sent(file, [[0], [0, 1]]) == ["Hello", "Hello world"]


def test_tokens_that_were_scanned_and_not_changed_can_be_sent_as_they_came(file: str) -> None:
    assert sent(file, [0, 1], send="tokens") == [0, 1]
    assert sent(file, [[0], [0, 1]], send="tokens") == [[0], [0, 1]]


@pytest.mark.parametrize("send", ["text", "tokens"])
def test_what_tokens_spell_is_found(file: str, send: str) -> None:
    assert sent(file, [0, 2, 3, 4], send=send) == "content_policy_violation"


def test_a_changed_text_is_never_sent_as_the_tokens_that_came(file: str) -> None:
    tokenizers = [{"file": file, "send": "tokens"}]
    policy = {"request": {"ticket": "redact"}}
    with gateway(json_reply(REPLY), plugins=GUARD, tokenizers=tokenizers, policy=policy) as gate:
        gate.ask({"model": "m", "prompt": [0, 2, 3, 4]})
        assert gate.upstream.requests[0].json()["prompt"] == "Hello [TICKET]"


@pytest.mark.parametrize("prompt", [[6], [-1], [[0], [99]]])
def test_a_number_that_is_no_token_is_refused(file: str, prompt: Any) -> None:
    assert sent(file, prompt) == "invalid_prompt"


def test_a_model_without_a_tokenizer_is_refused_as_before(file: str) -> None:
    assert sent(file, [0], models=["other-*"]) == "token_prompt_not_scannable"


def test_a_file_that_is_no_tokenizer_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"tokenizers.* cannot be read"):
        Tokenizers([TokenizerEntry(file=str(tmp_path / "t.json"))])
    value = document("http://127.0.0.1:9", "unused", tokenizers=[{"files": "x"}])
    with pytest.raises(ConfigError, match="Did you mean 'file'"):
        parse(value)
