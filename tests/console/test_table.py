"""``[console]`` takes a token that cannot be guessed, and nothing that it does not know."""

import os
from typing import Any

import pytest

from proxy.config import parse
from proxy.errors import ConfigError
from tests.gateway import document


def console(**table: Any) -> Any:
    return parse(document("http://127.0.0.1:1", "box", console=table)).config.console


def test_without_a_table_there_is_no_console() -> None:
    assert parse(document("http://127.0.0.1:1", "box")).config.console is None


def test_it_is_for_this_machine_only_unless_told_otherwise() -> None:
    os.environ["CONSOLE_TOKEN"] = "0123456789abcdef"
    assert console(token={"env": "CONSOLE_TOKEN"}).loopback_only
    assert not console(token={"env": "CONSOLE_TOKEN"}, loopback_only=False).loopback_only


def test_a_token_that_can_be_guessed_stops_the_start() -> None:
    os.environ["CONSOLE_TOKEN"] = "0123456789abcde"
    with pytest.raises(ConfigError, match=r"16 characters can be guessed.*openssl rand"):
        console(token={"env": "CONSOLE_TOKEN"})


def test_a_token_that_stands_in_the_file_stops_the_start() -> None:
    with pytest.raises(ConfigError, match=r"a secret never stands in the configuration") as told:
        console(token="0123456789abcdef0123")
    assert "0123456789abcdef0123" not in str(told.value)


def test_an_unknown_key_is_answered_with_the_nearest() -> None:
    os.environ["CONSOLE_TOKEN"] = "0123456789abcdef"
    with pytest.raises(ConfigError, match="loopback_only"):
        console(token={"env": "CONSOLE_TOKEN"}, loopback=True)


def test_without_a_token_there_is_no_console_for_anyone() -> None:
    with pytest.raises(ConfigError, match="token"):
        console(loopback_only=True)
