"""The smallest client that can show a stream as it comes; stands in for a program that uses the gateway."""

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.client import HTTPResponse
from typing import Any, Final

_TIMEOUT: Final = 120.0
# The environment's proxies are for the way out, not for this machine.
_OPENER: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Client:
    """Calls one gateway with one key."""

    def __init__(self, base: str, key: str) -> None:
        self._base = base
        self._key = key

    def send(
        self, path: str, body: dict[str, Any], show: Callable[[str], object]
    ) -> tuple[int, str]:
        """Make a call and hand each text to ``show`` as it arrives: the status and the call's id."""
        request = urllib.request.Request(  # noqa: S310 - the gateway's own http address
            self._base + path,
            json.dumps(body).encode(),
            {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"},
        )
        try:
            with _OPENER.open(request, timeout=_TIMEOUT) as answer:
                for text in _texts(answer):
                    show(text)
                return answer.status, answer.headers["x-outgate-id"]
        except urllib.error.HTTPError as refusal:
            with refusal:
                show(json.load(refusal)["error"]["message"])
                return refusal.code, refusal.headers["x-outgate-id"]


def get_json(url: str, key: str) -> Any:
    """The JSON at ``url``; raises ``OSError`` or ``ValueError`` when there is none."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - addresses of the demo
    with _OPENER.open(request, timeout=_TIMEOUT) as answer:
        return json.load(answer)


def _texts(answer: HTTPResponse) -> Iterator[str]:
    if "event-stream" not in answer.headers.get("content-type", ""):
        yield from _spoken(json.load(answer))
        return
    for line in answer:
        data = line.removeprefix(b"data:").strip()
        if data.startswith(b"{"):
            yield from _spoken(json.loads(data))


def _spoken(payload: dict[str, Any]) -> Iterator[str]:
    if "error" in payload:
        yield f"[{payload['error']['message']}]"
    for choice in payload.get("choices", ()):
        message = choice.get("message") or choice.get("delta") or choice
        yield message.get("text") or message.get("content") or ""
