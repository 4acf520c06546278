import pytest

from proxy import ConfigError
from proxy.testing import harness


def test_the_marks_are_set_on_the_reply_the_call_and_the_record() -> None:
    stamp = harness(
        "stamp",
        reply_headers={"x-label": "internal; {principal}"},
        user="acme-{principal}",
        notes={"asked_by": "{principal} for {model}"},
    ).given(caller="alice")
    result = stamp.completions(user="mallory")
    assert result.headers["x-label"] == "internal; alice"
    assert result.body["user"] == "acme-alice"
    assert result.record.notes == {"asked_by": "alice for test-model"}


def test_the_callers_own_user_stays_where_the_operator_lets_it() -> None:
    stamp = harness("stamp", user="{principal}", keep_user=True).given(caller="alice")
    assert stamp.completions(user="mallory").body["user"] == "mallory"
    assert stamp.completions().body["user"] == "alice"


def test_nothing_that_is_filled_in_is_filled_in_again() -> None:
    stamp = harness("stamp", user="{principal}{0.__class__}{{7*7}}").given(caller="{model}")
    assert stamp.completions().body["user"] == "{model}{0.__class__}{{7*7}}"


def test_a_name_that_no_header_carries_is_made_one() -> None:
    stamp = harness("stamp", reply_headers={"x-who": "{principal}"}).given(caller="Zoë\r\nx: y")
    assert stamp.completions().headers["x-who"] == "Zo???x: y"


def test_a_list_of_models_has_no_user() -> None:
    assert harness("stamp", user="x").call("models").denied is None


@pytest.mark.parametrize(
    "options", [{}, {"reply_headers": {"Set-Cookie": "a"}}, {"reply_headers": {"X-A": "a"}}]
)
def test_what_could_do_nothing_or_harm_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"nothing to do|small letters"):
        harness("stamp", **options)
