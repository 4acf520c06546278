"""Fixtures for pytest: write ``pytest_plugins = ["proxy.testing.fixtures"]`` into ``conftest.py``.

It is not loaded by itself: a suite that measures coverage would find half of its modules imported too early,
and one that needs no running proxy should not pay for one.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from proxy.testing.gateway import OutgateProxy, proxy
from proxy.testing.upstream import ScriptedUpstream, scripted

__all__ = ["outgate_config", "outgate_proxy", "scripted_upstream"]


@pytest.fixture
def scripted_upstream() -> Iterator[ScriptedUpstream]:
    """An upstream on loopback that says what the test tells it to."""
    with scripted() as upstream:
        yield upstream


@pytest.fixture
def outgate_config() -> Mapping[str, Any] | str | Path:
    """The configuration of ``outgate_proxy``: override it with a mapping, or the path of an ``outgate.toml``."""
    return {}


@pytest.fixture
def outgate_proxy(
    outgate_config: Mapping[str, Any] | str | Path, scripted_upstream: ScriptedUpstream
) -> Iterator[OutgateProxy]:
    """A running proxy with ``outgate_config``, in front of ``scripted_upstream``."""
    with proxy(outgate_config, scripted_upstream) as found:
        yield found
