"""What is sealed opens for one key, one purpose and one owner, and for nothing else."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from proxy.audit.envelope import EnvelopeError, fingerprint, seal, unseal

PRIVATE = X25519PrivateKey.generate()
PUBLIC = PRIVATE.public_key()


@given(st.binary(max_size=1000), st.binary(max_size=10), st.binary(max_size=10))
def test_what_was_sealed_opens(plain: bytes, purpose: bytes, owner: bytes) -> None:
    sealed = seal(plain, PUBLIC, purpose=purpose, bound_to=owner)
    assert unseal(sealed, PRIVATE, purpose=purpose, bound_to=owner) == plain


def test_it_names_the_key_it_is_for() -> None:
    sealed = seal(b"x", PUBLIC, purpose=b"p", bound_to=b"o")
    assert sealed["to"] == fingerprint(PUBLIC.public_bytes_raw())
    with pytest.raises(EnvelopeError, match=sealed["to"]):
        unseal(sealed, X25519PrivateKey.generate(), purpose=b"p", bound_to=b"o")


@pytest.mark.parametrize(("purpose", "owner"), [(b"q", b"o"), (b"p", b"x")])
def test_it_does_not_open_for_another_purpose_or_owner(purpose: bytes, owner: bytes) -> None:
    sealed = seal(b"x", PUBLIC, purpose=b"p", bound_to=b"o")
    with pytest.raises(EnvelopeError, match="changed"):
        unseal(sealed, PRIVATE, purpose=purpose, bound_to=owner)


@pytest.mark.parametrize("member", ["ephemeral", "box"])
@pytest.mark.parametrize("value", ["", "!", base64.b64encode(b"0" * 32).decode(), None, 7])
def test_a_changed_envelope_does_not_open(member: str, value: str) -> None:
    sealed = seal(b"x", PUBLIC, purpose=b"p", bound_to=b"o")
    with pytest.raises(EnvelopeError):
        unseal({**sealed, member: value}, PRIVATE, purpose=b"p", bound_to=b"o")


def test_the_same_text_is_never_sealed_alike() -> None:
    first, second = (seal(b"x", PUBLIC, purpose=b"p", bound_to=b"o") for _ in range(2))
    assert first["box"] != second["box"]
