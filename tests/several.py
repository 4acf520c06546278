"""A running gateway in front of several scripted upstreams, one of which may be nowhere.

with several({"a": [rst()], "b": [json_reply(REPLY)]}, {"upstreams": ["a", "b"]}) as (gate, servers):
    gate.ask(COMPLETION)
assert len(servers["b"].requests) == 0
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from tests.gateway import Gateway, gateway
from tests.upstream import Script, ScriptedUpstream

#: Where nobody listens.
NOWHERE: Final = "http://127.0.0.1:1"


def entry(url: str, **more: Any) -> dict[str, Any]:
    """One upstream of the configuration."""
    base = f"{url}/v1"
    return {"provider": "openai_compatible", "base_url": base, "allow_private": True, **more}


@contextmanager
def several(
    scripts: Mapping[str, Sequence[Script] | None],
    *routes: Mapping[str, Any],
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    **sections: Any,
) -> Iterator[tuple[Gateway, dict[str, ScriptedUpstream]]]:
    """A gateway with an upstream for each name; None for scripts means that it cannot be reached.

    ``settings`` holds further keys of the upstreams by their names.
    """
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(ScriptedUpstream(*played))
            for name, played in scripts.items()
            if played is not None
        }
        upstreams = {
            name: entry(
                servers[name].url if name in servers else NOWHERE, **(settings or {}).get(name, {})
            )
            for name in scripts
        }
        gate = stack.enter_context(gateway(upstreams=upstreams, routes=list(routes), **sections))
        yield gate, servers
        for server in servers.values():
            server.release()
