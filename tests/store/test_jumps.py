"""The wall clock jumps by hours, in both directions: nothing is spent twice, and nothing is lost."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import pytest

from proxy.store import Store

HERE: Final = Path(__file__).parent
COMPILER: Final = shutil.which("cc")
pytestmark = pytest.mark.skipif(
    COMPILER is None or not sys.platform.startswith("linux"),
    reason="needs Linux and a C compiler, for a clock that jumps",
)


@pytest.fixture(scope="session")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("clock") / "clock.so"
    assert COMPILER is not None
    command = [COMPILER, "-shared", "-fPIC", "-O1", "-o", str(made), str(HERE / "clock.c")]
    subprocess.run(command, check=True, capture_output=True)
    return made


def begun(clock: Path, scenario: str, url: str, folder: Path, seed: int = 0) -> Any:
    environment = {**os.environ, "LD_PRELOAD": str(clock)}
    # The measuring of coverage has a wall clock of its own to go by.
    environment.pop("COVERAGE_PROCESS_CONFIG", None)
    command = [sys.executable, "-m", "tests.store.jumping", scenario, url, str(folder), str(seed)]
    return subprocess.Popen(
        command, env=environment, cwd=HERE.parents[1], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def told(process: Any) -> Any:
    output, errors = process.communicate(timeout=110)
    assert process.returncode == 0, errors
    return json.loads(output)


def test_processes_whose_clocks_jump_apart_spend_what_there_is_and_no_more(
    store: Store, clock: Path, tmp_path: Path
) -> None:
    url = str(store.table.url)
    spenders = [begun(clock, "spending", url, tmp_path, seed) for seed in (1, 2)]
    most = 0
    while any(spender.poll() is None for spender in spenders):
        for name in "ab":
            found = store.ledger.balance(name, "s", "2026", "tokens")
            most = max(most, found.settled + found.reserved)
        time.sleep(0.005)
    reports = [told(spender) for spender in spenders]
    assert 0 < most <= 3000
    for name in "ab":
        found = store.ledger.balance(name, "s", "2026", "tokens")
        assert (found.settled, found.reserved) == (sum(each["spent"] for each in reports), 0)
    (row,) = store.usage.report(["key"])
    # Nobody was taken for dead, though each clock said that hours had passed.
    assert (row["abandoned"], row["calls"]) == (0, sum(each["calls"] for each in reports))
    assert row["completion_tokens"] == sum(each["spent"] for each in reports)
    assert min(each["calls"] for each in reports) > 10
    assert min(each["jumps"] for each in reports) > 10


def test_keys_end_by_the_wall_clock_and_a_revoked_one_at_once_whatever_it_shows(
    store_url: str, clock: Path, tmp_path: Path
) -> None:
    found = told(begun(clock, "keys", store_url, tmp_path))
    # The first secret, its successor, and a key without an end; what has ended by mistake comes back.
    assert found["found"] == [
        [True, True, True],
        [False, True, True],  # an hour and a half later
        [False, False, True],  # three hours
        [True, True, True],  # nine hours back
        [True, True, True],
    ]
    assert found["seconds"] < 10


def test_limits_and_places_do_not_see_the_wall_clock(clock: Path, tmp_path: Path) -> None:
    found = told(begun(clock, "limits", "", tmp_path))
    assert all(3400 < wait < 3700 for wait in found["waits"])
    assert all(found["places"])
    assert found["after"] == [0, 0]


def test_a_clock_that_is_ahead_opens_another_day_and_one_that_is_put_right_finds_the_old_one(
    store_url: str, clock: Path, tmp_path: Path
) -> None:
    found = told(begun(clock, "periods", store_url, tmp_path))
    assert found["found"] == [True, False, False, True, True, False, True]
    assert found["balance"] == [500, 400]


def test_a_clock_that_is_years_ahead_makes_nothing_old(
    store_url: str, clock: Path, tmp_path: Path
) -> None:
    assert told(begun(clock, "pruning", store_url, tmp_path)) == {"removed": 0}
