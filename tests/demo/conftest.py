from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import openai
import pytest
import requests

from proxy.demo import create_upstream, running


@dataclass(frozen=True)
class Site:
    """A running upstream and plain ways to call it."""

    base: str
    closing: ExitStack = field(default_factory=ExitStack)

    def post(self, path: str, body: Any, **headers: str) -> requests.Response:
        if isinstance(body, bytes):
            return requests.post(self.base + path, data=body, headers=headers, timeout=20)
        return requests.post(self.base + path, json=body, headers=headers, timeout=20)

    def get(self, path: str, **headers: str) -> requests.Response:
        return requests.get(self.base + path, headers=headers, timeout=20)

    def sdk(self, key: str = "sk-any-key") -> openai.OpenAI:
        sdk = openai.OpenAI(base_url=f"{self.base}/v1", api_key=key, max_retries=0)
        return self.closing.enter_context(sdk)


@pytest.fixture(scope="package")
def site() -> Iterator[Site]:
    with running(create_upstream()) as base:
        site = Site(base)
        with site.closing:
            yield site


@pytest.fixture(scope="package")
def locked() -> Iterator[Site]:
    with running(create_upstream(api_key="sk-right-key", keep=4)) as base:
        site = Site(base)
        with site.closing:
            yield site
