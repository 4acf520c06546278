"""OpenAI itself."""

from collections.abc import Iterator

from proxy import Provider, hookimpl


@hookimpl
def providers() -> Iterator[Provider]:
    """``provider = "openai"``; the base URL is OpenAI's unless the upstream names another."""
    yield Provider(
        name="openai",
        base_url="https://api.openai.com/v1",
        credential_variable="OPENAI_API_KEY",
        title="OpenAI",
        documentation=("https://developers.openai.com/api/docs/deprecations",),
        quirks=(
            "No model of it answers completions: [upstreams.NAME.bridge] always = true sends them as chats.",
        ),
    )
