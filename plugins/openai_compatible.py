"""Any server that speaks OpenAI's routes: vLLM, SGLang, llama.cpp, another gateway."""

from collections.abc import Iterator

from proxy import Provider, hookimpl


@hookimpl
def providers() -> Iterator[Provider]:
    """``provider = "openai_compatible"``; the upstream says where, down to and with ``/v1``."""
    yield Provider(
        name="openai_compatible",
        credential_variable="UPSTREAM_API_KEY",
        title="Any server with OpenAI's routes",
        quirks=("Which routes it has is its own to say: a call to one it lacks gets its answer.",),
    )
