from typing import Any

import msgspec
import pytest

from proxy import ConfigError
from proxy.store.grant import Grant, Key

NOW = 1_800_000_000


def key(**fields: Any) -> Key:
    return Key(**{"id": "key_0123456789abcdef", "name": "alice", "created": NOW, **fields})


def test_a_key_that_says_nothing_may_be_used_for_everything_from_everywhere() -> None:
    found = key()
    found.check(NOW)
    assert found.live(NOW)
    assert found.takes_model("any")
    assert found.takes_endpoint("chat")
    assert found.takes_address("203.0.113.7")
    assert found.takes_address("")


def test_models_and_endpoints_are_globs() -> None:
    found = key(models=("gpt-4*", "o3"), endpoints=("chat", "model*"))
    assert [found.takes_model(name) for name in ("gpt-4o", "o3", "o3-mini", "GPT-4", "")] == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert [found.takes_endpoint(name) for name in ("chat", "models", "model", "completions")] == [
        True,
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("client", "taken"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("192.0.2.7", True),
        ("192.0.2.8", False),
        ("2001:db8::1", True),
        ("2001:db9::1", False),
        ("11.0.0.1", False),
        ("", False),
        ("unix:", False),
        ("10.1.2.3 ", False),
    ],
)
def test_a_key_may_be_bound_to_networks(client: str, taken: bool) -> None:
    found = key(networks=("10.0.0.0/8", "192.0.2.7", "2001:db8::/32"))
    assert found.takes_address(client) is taken


def test_a_key_ends_when_it_expires_or_is_revoked() -> None:
    assert key(expires=NOW + 1).live(NOW)
    assert not key(expires=NOW).live(NOW)
    assert not key(revoked=NOW).live(NOW)
    assert not key(revoked=NOW + 10).live(NOW)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": ""}, "name = ''"),
        ({"name": " alice"}, "no blank around"),
        ({"name": "a\nb"}, "printable"),
        ({"name": "a\x00b"}, "printable"),
        ({"name": "x" * 129}, "1 to 128"),
        ({"name": "key_0123456789abcdef"}, "looks like an id or a secret"),
        ({"name": "og-alice"}, "looks like an id or a secret"),
        ({"owner": ""}, "owner = ''"),
        ({"team": "  "}, "team = "),
        ({"upstream": "a\tb"}, "upstream = "),
        ({"groups": ("",)}, "groups = ''"),
        ({"models": ("gpt-4", "")}, "models = ''"),
        ({"endpoints": ("chats",)}, "fits no endpoint. Did you mean 'chat'"),
        ({"networks": ("10.0.0.1/8",)}, "has host bits set"),
        ({"networks": ("anywhere",)}, "write 10.0.0.0/8"),
        ({"metadata": {"team": "x"}}, "'team' is set by the key itself"),
        ({"metadata": {"key": "x"}}, "'key' is set by the key itself"),
        ({"metadata": {"a": ""}}, "metadata.a = ''"),
        ({"metadata": {f"l{i}": "x" for i in range(33)}}, "more than 32 labels"),
        ({"expires": NOW}, "that moment has passed"),
    ],
)
def test_what_a_key_cannot_say_is_refused_with_the_way_out(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as error:
        Grant(**{"name": "alice", **fields}).check(NOW)
    assert message in str(error.value)


def test_a_key_holds_no_secret() -> None:
    assert set(msgspec.to_builtins(key())) == {*Grant.__struct_fields__, "id", "created", "revoked"}
