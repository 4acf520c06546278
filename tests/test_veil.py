from proxy import Secret
from proxy.veil import Veil


def test_keys_are_replaced_in_headers_and_bodies() -> None:
    veil = Veil(Secret("sk-0123456789ab"), None, Secret("other-0123456789"))
    assert veil.text("Bearer sk-0123456789ab!") == "Bearer [credential]!"
    assert veil.data(b"sk-0123456789ab other-0123456789") == b"[credential] [credential]"


def test_everything_else_stays_the_same_object() -> None:
    data = b"nothing to hide \xff"
    assert Veil(Secret("sk-0123456789ab")).data(data) is data


def test_a_key_that_could_be_a_word_is_left_alone() -> None:
    assert Veil(Secret("test"), Secret("")).data(b"a test") == b"a test"
