"""A plugin is told what it is a part of, as soon as that is known."""

from dataclasses import dataclass

import pytest

from proxy import Deployment, hookimpl
from tests.gateway import COMPLETION, gateway

_seen: list[tuple[str, tuple[str, ...]]] = []


@dataclass(frozen=True)
class Part:
    """A plugin that asks for its deployment, too early at first."""

    deployment: Deployment

    def __post_init__(self) -> None:
        for ask in (lambda: self.deployment.digest, lambda: self.deployment.passed_headers):
            with pytest.raises(RuntimeError, match="ask for it in a hook"):
                ask()

    @hookimpl
    def guard_request(self) -> None:
        _seen.append((self.deployment.digest, self.deployment.passed_headers))


def test_a_plugin_is_given_the_digest_and_the_headers_that_upstreams_may_get() -> None:
    plugins = [{"use": f"{__name__}:Part"}]
    with gateway(plugins=plugins, upstream={"pass_headers": ["X-Trace"]}) as gate:
        assert gate.ask(COMPLETION).status == 200
        parts = gate.pipeline.parts
    digest, headers = _seen[-1]
    assert digest == parts.digest
    assert {"openai-organization", "x-trace"} <= set(headers)
