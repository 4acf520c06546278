"""One real stack for all end-to-end tests of a worker, and its logs beside every failure."""

import shutil
from collections.abc import Generator, Iterator

import pytest

from proxy.demo import create_upstream, running
from tests.e2e.stack import NGINX, ROOT, UPSTREAM_KEY, Stack, configuration, running_stack
from tests.upstream import ScriptedUpstream

_NODE_MODULES = ROOT / "tests" / "e2e" / "node" / "node_modules"
_TAIL = 8_000


@pytest.fixture(scope="session")
def session_upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as upstream:
        yield upstream


@pytest.fixture(scope="session")
def shared_stack(
    tmp_path_factory: pytest.TempPathFactory, session_upstream: ScriptedUpstream
) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    with running(create_upstream(api_key=UPSTREAM_KEY)) as demo:
        upstreams = {"demo": f"{demo}/v1", "scripted": f"{session_upstream.url}/v1"}
        with running_stack(folder, configuration(upstreams, folder / "log.jsonl")) as stack:
            yield stack


@pytest.fixture
def stack(need_nginx: None, shared_stack: Stack) -> Stack:
    """nginx, gunicorn and Outgate; every model but ``scripted`` is the demo upstream's."""
    return shared_stack


@pytest.fixture
def scripted(stack: Stack, session_upstream: ScriptedUpstream) -> ScriptedUpstream:
    """The upstream behind the model ``scripted``: call ``play`` before calling the proxy."""
    session_upstream.play()
    return session_upstream


@pytest.fixture(scope="session")
def need_nginx() -> None:
    if NGINX is None:
        pytest.skip("nginx is not installed")


@pytest.fixture(scope="session")
def curl() -> str:
    return shutil.which("curl") or pytest.skip("curl is not installed")


@pytest.fixture(scope="session")
def node() -> str:
    if not (_NODE_MODULES / "openai").is_dir():
        pytest.skip("the npm packages are not installed: make node")
    return shutil.which("node") or pytest.skip("node is not installed")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, Stack):
                report.sections += [(name, text[-_TAIL:]) for name, text in value.logs().items()]
    return report
