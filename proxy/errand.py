"""What a call becomes for one upstream: a path, and the body or the bodies that are sent there."""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import quote

from msgspec import Struct, structs

from proxy import jsonio, params
from proxy.bridge.crossing import must_cross
from proxy.bridge.fill_in import fills_in, planned_fill_in
from proxy.bridge.plan import Plan, planned
from proxy.dialect import Dialect, Untranslatable
from proxy.dialect_reply import Asked
from proxy.errors import ApiError, InvalidRequest
from proxy.model import BODILESS, Call, Provider, Upstream
from proxy.texts import texts

log: Final = logging.getLogger("outgate.dialect")
_LONGEST_MODEL: Final = 512


class Errand(Struct, frozen=True):
    """One call on its way to one upstream.

    ``body`` goes as one request, the parts of a ``plan`` as several. ``asked`` is there where a dialect translates,
    and ``added`` are the texts that came in with it.
    """

    path: str
    body: bytes | None = None
    plan: Plan | None = None
    asked: Asked | None = None
    added: frozenset[str] = frozenset()

    @property
    def facts(self) -> dict[str, Any]:
        """What the record tells of it, also that an upstream asked later was sent the call as it is."""
        if self.plan is not None:
            return {"bridged": len(self.plan.parts), "bridged_digest": self.plan.digest}
        own = None if self.asked is None else hashlib.sha256(self.body or b"").hexdigest()
        return {"bridged": 0, "bridged_digest": own}


def errand(
    upstream: Upstream,
    provider: Provider,
    call: Call,
    sent: bytes,
    readable: Callable[[Call], Call],
) -> Errand:
    """``call``, whose own body is ``sent``, for ``upstream``; ``readable`` gives it with its prompt as text.

    Raises ``ApiError`` for what this upstream cannot be asked.
    """
    filled = provider.fill_in if fills_in(call, upstream.bridge) else None
    crosses = must_cross(upstream.bridge, provider.paths, call.endpoint)
    path = filled or provider.paths.get("chat" if crosses else call.endpoint)
    if path is None:
        raise ApiError(
            f"The upstream for this model does not offer {call.endpoint}.",
            status=404, type="invalid_request_error", code="endpoint_not_offered",
        )  # fmt: skip
    if upstream.strict and call.endpoint not in BODILESS:
        params.check(call.endpoint, call.body, strict=True)
    path = _path(path, call)
    if filled is not None:
        return Errand(path, plan=planned_fill_in(readable(call), upstream.bridge))
    plan = planned(readable(call), upstream.bridge) if crosses else None
    if provider.dialect is not None and (crosses or call.endpoint == "chat"):
        return _translated(provider.dialect, provider.name, path, call, plan)
    body = None if crosses or call.endpoint in BODILESS else sent
    return Errand(path, body, plan)


def no_such_model(call: Call) -> ApiError:
    """The answer for a model that leads nowhere."""
    return ApiError(
        f"The model {str(call.model)[:128]!r} does not exist or you do not have access to it.",
        status=404, type="invalid_request_error", code="model_not_found", param="model",
    )  # fmt: skip


def _path(path: str, call: Call) -> str:
    """``path`` with the model of the call where it belongs; raises ``ApiError`` for one that fits into no path."""
    model = call.model or ""
    if "{model}" in path:
        if not model.strip(".") or len(model) > _LONGEST_MODEL:
            raise no_such_model(call)
        path = path.replace("{model}", quote(model, safe=""))
    return path.replace("{id}", quote(model, safe="/:@"))


def _translated(dialect: Dialect, name: str, path: str, call: Call, plan: Plan | None) -> Errand:
    asked = Asked(
        id=f"chatcmpl-{call.id.removeprefix('req_')}",
        model=call.model or "",
        usage=(call.body.get("stream_options") or {}).get("include_usage") is True,
    )
    if plan is None:
        body, added = _said(dialect, name, call.body)
        return Errand(path, body, asked=asked, added=added)
    said = [_said(dialect, name, json.loads(part.body)) for part in plan.parts]
    parts = tuple(
        structs.replace(part, body=body) for part, (body, _) in zip(plan.parts, said, strict=True)
    )
    plan = structs.replace(plan, parts=parts)
    return Errand(path, plan=plan, asked=asked, added=frozenset().union(*(new for _, new in said)))


def _said(dialect: Dialect, name: str, body: Mapping[str, Any]) -> tuple[bytes, frozenset[str]]:
    """A chat in the words of a provider, and the texts that are neither the chat's nor the dialect's."""
    try:
        translated = dialect.request(body)
        new = _texts(translated) - _texts(body) - frozenset(dialect.words)
        return jsonio.encode(translated), new
    except Untranslatable as error:
        raise InvalidRequest(error.message, param=error.param, code="not_in_the_dialect") from None
    except Exception as error:
        log.exception("the dialect of %s failed", name)
        raise ApiError(
            f"The dialect of {name!r} could not translate this call, so it was not sent."
            " Tell the operator of this gateway.",
            code="plugin_failed",
        ) from error


def _texts(body: Any) -> frozenset[str]:
    return frozenset(text.value for text in texts(body))
