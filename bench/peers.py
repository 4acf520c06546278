"""The gateways that Outgate is measured beside, where ``make bench-peers`` has installed them."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from targets import Target, server

NAMES: Final = ("portkey", "litellm")
_HERE: Final = Path(__file__).parent / "peers"
_PORTKEY: Final = _HERE / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
_LITELLM: Final = _HERE / "venv" / "bin" / "litellm"
_SETTINGS: Final = """
model_list:
  - model_name: "*"
    litellm_params:
      model: "text-completion-openai/*"
      api_base: "{behind}/v1"
      api_key: "upstream-key-0123456789"
litellm_settings:
  telemetry: false
"""

Peer = Callable[[Path, int | None, str], AbstractContextManager[Target]]


def installed() -> dict[str, Peer]:
    """Those that are there, by name."""
    found: dict[str, Peer] = {}
    if _PORTKEY.exists():
        found["portkey"] = portkey
    if _LITELLM.exists():
        found["litellm"] = litellm
    return found


def portkey(folder: Path, core: int | None, behind: str) -> AbstractContextManager[Target]:
    """Portkey's gateway with nothing on, told by headers where to send calls."""
    command = ["node", str(_PORTKEY), "--port={port}", "--headless"]
    headers = f"x-portkey-provider: openai\r\nx-portkey-custom-host: {behind}/v1\r\n"
    environment = {"BENCH_KEY": "upstream-key-0123456789", "NODE_ENV": "production"}
    return server("portkey", command, folder / "portkey", core, environment, headers=headers)


def litellm(folder: Path, core: int | None, behind: str) -> AbstractContextManager[Target]:
    """LiteLLM's proxy with one worker, no database, no callbacks."""
    here = folder / "litellm"
    here.mkdir(parents=True)
    path = here / "config.yaml"
    path.write_text(_SETTINGS.format(behind=behind))
    command = [str(_LITELLM), "--config", str(path), "--host", "127.0.0.1", "--port", "{port}"]
    environment = {
        "BENCH_KEY": "sk-bench-0123456789",
        "LITELLM_MASTER_KEY": "sk-bench-0123456789",
        "HOME": str(here),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
    }
    return server("litellm", command, here, core, environment)
