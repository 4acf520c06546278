"""What every test may count on: a clean environment, and quiet beside a load test."""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.store.servers import (
    postgresql,
    postgresql_server,
    redis_server,
    redis_url,
    store,
    store_url,
)

__all__ = ["postgresql", "postgresql_server", "redis_server", "redis_url", "store", "store_url"]

# On a busy machine the first texts are drawn slowly; that says nothing about what is tested.
settings.register_profile("patient", suppress_health_check=[HealthCheck.too_slow], deadline=None)
settings.load_profile("patient")

# Named, or beginning so: whatever a developer's shell says must not decide a test.
_UNWANTED = ("outgate_", "openai_", "portkey_", "gunicorn_", "requests_", "curl_", "ssl_", "web_")
_UNWANTED_NAMES = {"http_proxy", "https_proxy", "all_proxy", "no_proxy", "netrc", "flask_app"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked ``alone`` come last, and all to the same worker."""
    items.sort(key=_is_alone)
    for item in filter(_is_alone, items):
        item.add_marker(pytest.mark.xdist_group("alone"))


def _is_alone(item: pytest.Item) -> bool:
    return item.get_closest_marker("alone") is not None


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        lower = name.lower()
        if lower in _UNWANTED_NAMES or lower.startswith(_UNWANTED):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def quiet(request: pytest.FixtureRequest, lock_file: Path) -> Iterator[None]:
    """Tests share the machine, but a test marked ``alone`` has it for itself."""
    alone = _is_alone(request.node)
    with lock_file.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield


@pytest.fixture(scope="session")
def lock_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.getbasetemp()
    # Every worker of a parallel run has a directory of its own below the one of the run.
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    return shared / "alone.lock"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests measured but do not judge: each ``record_property("figure", text)``."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "figure":
                terminalreporter.write_line(f"{report.nodeid.rpartition('::')[2]}: {value}")
