"""The test of ``guard.py``: ``pytest`` runs it, without a server and without a network."""

from proxy.testing import harness


def test_confidential_text_stays_here() -> None:
    assert harness("guard:").completions(prompt="Strictly confidential: plan B").denied


def test_other_text_passes() -> None:
    assert not harness("guard:").completions(prompt="Once upon a time").denied
