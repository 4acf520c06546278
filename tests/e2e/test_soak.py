"""A short soak; ``make soak`` is the long one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.soak import CALLERS, soak

pytestmark = [
    pytest.mark.alone,
    pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the kernel tells nothing"),
]


def test_k12_memory_and_descriptors_stay_flat(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    first, last = soak(tmp_path, 2000, lambda _: None, steps=2)
    record_property("figure", f"2,000 calls, everything on: {first}, then {last}")
    assert last.rss - first.rss < 8 * 1024 * 1024
    assert last.descriptors <= first.descriptors + 2 * CALLERS
