"""A gateway whose one upstream, the demo's, is spoken to in chats, and that upstream itself."""

import json
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any, Final

import pytest

from proxy.app import create_app
from proxy.config import parse
from proxy.demo import create_upstream, running
from tests.gateway import KEY, document

_OPENER: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_BOX: Final = "bridge"


class Server:
    """Something that answers completions."""

    def __init__(self, base: str) -> None:
        self.base = base

    def ask(self, body: Mapping[str, Any]) -> Any:
        """The answer, with the status of an error in it."""
        data = self._post(body)
        return json.loads(data)

    def stream(self, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The payloads of a stream that ends with ``[DONE]``."""
        lines = self._post({**body, "stream": True}).decode().split("\n\n")
        events = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
        assert events.pop() == "[DONE]"
        return [json.loads(event) for event in events]

    def _post(self, body: Mapping[str, Any]) -> bytes:
        request = urllib.request.Request(
            f"{self.base}/v1/completions",
            json.dumps(body).encode(),
            {"content-type": "application/json", "authorization": f"Bearer {KEY}"},
        )
        try:
            with _OPENER.open(request, timeout=60) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return bytes(error.read())


@pytest.fixture(scope="module")
def native() -> Iterator[Server]:
    """The demo upstream, which has both routes."""
    with running(create_upstream()) as url:
        yield Server(url)


@pytest.fixture(scope="module")
def bridged(native: Server) -> Iterator[Server]:
    """A gateway that reaches the same upstream in chats."""
    settings = document(native.base, _BOX, upstream={"bridge": {"always": True}})
    settings["plugins"] = settings["plugins"][:-1]
    with running(create_app(parse(settings))) as url:
        yield Server(url)
