"""Any server that speaks OpenAI's routes: vLLM, SGLang, llama.cpp, another gateway."""

from collections.abc import Iterator

from proxy import Provider, hookimpl


@hookimpl
def providers() -> Iterator[Provider]:
    """``provider = "openai_compatible"``; the upstream says where, down to and with ``/v1``."""
    yield Provider(name="openai_compatible")
