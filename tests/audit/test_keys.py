"""Keys are made private, never overwritten, and every mistake with them is told with the way out."""

from pathlib import Path

import pytest

from proxy import ConfigError, Secret
from proxy.audit import keys


def test_both_pairs_are_made_and_read_back(tmp_path: Path) -> None:
    paths = keys.create(tmp_path / "keys")
    assert [path.stat().st_mode & 0o777 for path in paths] == [0o600, 0o644, 0o600, 0o644]
    private, public, signer, signing = paths
    assert (
        keys.sealing_private(private).public_key().public_bytes_raw()
        == keys.sealing_public(public).public_bytes_raw()
    )
    assert (
        keys.signing_private(signer).public_key().public_bytes_raw()
        == keys.signing_public(signing).public_bytes_raw()
    )


def test_a_password_protects_the_key_of_the_auditor(tmp_path: Path) -> None:
    private = keys.create(tmp_path, Secret("open sesame"))[0]
    keys.sealing_private(private, Secret("open sesame"))
    with pytest.raises(ConfigError, match="password"):
        keys.sealing_private(private)
    with pytest.raises(ConfigError, match=r"password|not such a key"):
        keys.sealing_private(private, Secret("wrong"))


def test_keys_are_never_overwritten(tmp_path: Path) -> None:
    before = keys.create(tmp_path)[0].read_bytes()
    with pytest.raises(ConfigError, match="never overwritten"):
        keys.create(tmp_path)
    assert (tmp_path / keys.SEALING_PRIVATE).read_bytes() == before


def test_mistakes_are_told_with_the_way_out(tmp_path: Path) -> None:
    private, public, signer, signing = keys.create(tmp_path)
    with pytest.raises(ConfigError, match=r"No such file.*outgate audit init"):
        keys.sealing_public(tmp_path / "missing.pem")
    with pytest.raises(ConfigError, match="X25519 key is needed"):
        keys.sealing_public(signing)
    with pytest.raises(ConfigError, match="Ed25519 key is needed"):
        keys.signing_private(private)
    with pytest.raises(ConfigError, match="not such a key"):
        keys.sealing_public(private)
    with pytest.raises(ConfigError, match="not such a key"):
        keys.signing_private(public)
    signer.chmod(0o604)
    with pytest.raises(ConfigError, match="chmod o="):
        keys.signing_private(signer)
