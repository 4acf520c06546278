"""One real stack for all end-to-end tests of a worker, and its logs beside every failure."""

import shutil
import threading
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from proxy.demo import create_upstream, running
from proxy.serving import RESERVED_THREADS
from tests.e2e.answers import COMPLETION, chunk
from tests.e2e.stack import NGINX, ROOT, UPSTREAM_KEY, Stack, configuration, post, running_stack
from tests.upstream import WAIT, ScriptedUpstream, json_reply, sse

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


@pytest.fixture
def busy(need_nginx: None, tmp_path: Path) -> Iterator[tuple[Stack, ScriptedUpstream]]:
    """A proxy with room for one call, and that call under way until ``release``."""
    held = sse([chunk("a"), WAIT, chunk("", "stop"), "[DONE]"])
    # Of these threads all but one are kept for health checks and refusals.
    threads = RESERVED_THREADS + 1
    with ScriptedUpstream(held, json_reply(COMPLETION)) as upstream:
        config = configuration({"scripted": f"{upstream.url}/v1"}, tmp_path / "log.jsonl")
        with running_stack(tmp_path, config, threads=threads) as stack:
            body = {"model": "scripted", "prompt": "x", "stream": True}
            holder = threading.Thread(target=post, args=(stack, body))
            holder.start()
            upstream.wait_for(lambda: len(upstream.requests) == 1)
            yield stack, upstream
            upstream.release()
            holder.join()


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
        values = getattr(item, "funcargs", {}).values()
        # Two fixtures may give the same stack; it is told once.
        for stack in {id(value): value for value in values if isinstance(value, Stack)}.values():
            report.sections += [(name, text[-_TAIL:]) for name, text in stack.logs().items()]
    return report
