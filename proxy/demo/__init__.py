"""The bundled demo upstream: an OpenAI-shaped server with a text model of its own."""

from proxy.demo.loopback import running
from proxy.demo.serving import serve
from proxy.demo.upstream import create_upstream

__all__ = ["create_upstream", "running", "serve"]
