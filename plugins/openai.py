"""OpenAI itself."""

from collections.abc import Iterator

from proxy import Provider, hookimpl


@hookimpl
def providers() -> Iterator[Provider]:
    """``provider = "openai"``; the base URL is OpenAI's unless the upstream names another."""
    yield Provider(name="openai", base_url="https://api.openai.com/v1")
