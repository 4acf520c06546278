"""What happens to a call before anything leaves: read, identify, check, rewrite, guard, scan."""

import hashlib
import logging
import time
from collections.abc import Collection, Mapping
from typing import Any, Final

from msgspec import structs

from proxy import chain, jsonio, params, wire
from proxy.admission import admit
from proxy.errors import InvalidRequest, Unauthenticated
from proxy.exchange import Denied, Exchange
from proxy.frozen import FrozenDict
from proxy.metering import asking
from proxy.model import BODILESS, Call, Deny, Principal, Request
from proxy.parts import Parts
from proxy.screen import Screen
from proxy.steps import fault_denial
from proxy.tokens import Tokenizers

log: Final = logging.getLogger("outgate")
_HIDDEN: Final = (
    "Refused by policy: a text in this call says something else when it is read, such as the arguments of a tool call"
    " with escapes in them. Write it plainly, and send the call again."
)


class Intake:
    """Turns a request into a call that may leave, and the bytes that stand for it."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._config = parts.config
        self._tokenizers = Tokenizers(parts.config.tokenizers)
        self._screen = Screen(parts.policy, wire.passable(parts.upstreams.values()))
        #: Whom it matters to what a stream cost.
        self._accounting = (*parts.chain.admit, *parts.chain.observe_response)
        self._takes_caller_keys = any(
            upstream.pass_caller_credential for upstream in parts.upstreams.values()
        )

    def accept(
        self, environ: Mapping[str, Any], exchange: Exchange, model: str | None
    ) -> tuple[Call, bytes]:
        """The call and the exact bytes that may be sent for it; raises ``ApiError``."""
        wire.refuse_query(environ)
        headers = wire.read_headers(environ)
        exchange.facts["retry_count"] = _count(headers.get("x-stainless-retry-count", ""))
        request = self._request(exchange, headers)
        exchange.principal = self._identify(request, exchange)
        body = self._read(environ, headers, exchange)
        asked = self._call(exchange, exchange.principal, request, body, model)
        call, sent = self.judged(asked, exchange)
        exchange.call = call = self._admit(call, exchange)
        if call.endpoint not in BODILESS:
            exchange.facts |= {"digest": hashlib.sha256(sent).hexdigest(), "bytes_sent": len(sent)}
        return call, sent

    def judged(self, asked: Call, exchange: Exchange) -> tuple[Call, bytes]:
        """What may leave of an accepted call, and the bytes for it; raises ``ApiError``.

        Nothing is reserved or sent for it, so that a call can be judged as often as one likes.
        """
        witness = exchange.witness
        if witness is not None:
            witness.asked = asked
        exchange.call = asked
        exchange.call = read = self._check(asked)
        exchange.call = call = self._rewrite(read, exchange)
        exchange.call = call = self._guard(call, exchange)
        exchange.call = call = self._tokenizers.sendable(asked, read, call)
        if witness is not None:
            found = len(exchange.trail.findings)
            witness.leaves(call, found, metered=exchange.hides_usage)
        return call, jsonio.encode(call.body)

    def changed(
        self,
        call: Call,
        body: Mapping[str, Any],
        exchange: Exchange,
        *,
        guarded: bool,
    ) -> tuple[Call, bytes]:
        """``call`` with other values in its body, and the bytes for it; raises ``ApiError``.

        What is new is judged: by the policy, and if ``guarded`` by the guardrails, too. It is admitted once more.
        """
        changed = call.with_body(**body)
        new = call.replace(body=body, model=changed.model, stream=call.stream)
        self._take(changed)
        self._scannable(new)
        if guarded:
            self._approve(changed, exchange)
        screened = self._screen.judge(new, exchange.trail)
        if screened.refusal is not None:
            raise Denied(*screened.refusal)
        if screened.body is not new.body:
            raise Denied(_no_mask(), "policy")
        sent = jsonio.encode(changed.body)
        exchange.call = changed = self._admit(changed, exchange)
        exchange.facts |= {"digest": hashlib.sha256(sent).hexdigest(), "bytes_sent": len(sent)}
        return changed, sent

    def judge(self, call: Call, added: Collection[str], exchange: Exchange) -> None:
        """Have texts judged that ``call`` gets on its way to one upstream; raises ``Denied`` unless all may leave."""
        body = {"texts": sorted(added)}
        new = call.replace(body=body, model=call.model, stream=call.stream, headers=FrozenDict())
        screened = self._screen.judge(new, exchange.trail)
        if screened.refusal is not None:
            deny, by = screened.refusal
            raise Denied(structs.replace(deny, message=_HIDDEN, param=None), by)
        if screened.body is not new.body:
            raise Denied(Deny(_HIDDEN), "policy")

    def caller(self, environ: Mapping[str, Any], exchange: Exchange) -> Principal:
        """Who sends this request, whatever it asks for; raises ``ApiError``."""
        return self._identify(self._request(exchange, wire.read_headers(environ)), exchange)

    def _request(self, exchange: Exchange, headers: Mapping[str, str]) -> Request:
        credentials = wire.read_credentials(headers)
        if credentials.provider and not self._takes_caller_keys:
            raise InvalidRequest(
                "Different keys were sent in x-portkey-api-key and authorization, and no upstream here takes the"
                " caller's own key; send one.",
                code="ambiguous_credentials",
            )
        exchange.credentials = credentials
        return Request(
            id=exchange.id,
            endpoint=exchange.endpoint,
            headers=wire.visible(headers),
            credentials=credentials,
            client=exchange.client,
        )

    def _identify(self, request: Request, exchange: Exchange) -> Principal:
        caller, provider = request.credentials.caller, request.credentials.provider
        if not all(wire.well_formed(key) for key in (caller, provider) if key):
            raise Unauthenticated
        found = chain.identify(self._parts.chain.identify, request, exchange.trail)
        if isinstance(found, Deny):
            raise Denied(found, exchange.trail.verdicts[-1].plugin)
        if found is None and self._config.access.anonymous and not caller:
            found = Principal(self._config.access.anonymous)
        if found is None:
            raise Unauthenticated
        groups = self._parts.teams.closed(found.groups)
        return found if groups == found.groups else structs.replace(found, groups=groups)

    def _read(
        self, environ: Mapping[str, Any], headers: Mapping[str, str], exchange: Exchange
    ) -> Mapping[str, Any]:
        limits = self._config.limits
        if exchange.endpoint in BODILESS:
            if wire.read_body(environ, limits.body_bytes):
                raise InvalidRequest("This endpoint takes no body.", code="unexpected_body")
            return FrozenDict()
        wire.check_media(headers)
        data = wire.read_body(environ, limits.body_bytes)
        exchange.facts["bytes_in"] = len(data)
        body = jsonio.decode(data, depth=limits.depth)
        if not isinstance(body, FrozenDict):
            params.check(exchange.endpoint, body)  # says what is wrong with it
        return body  # type: ignore[no-any-return]

    def _call(
        self,
        exchange: Exchange,
        principal: Principal,
        request: Request,
        body: Mapping[str, Any],
        model: str | None,
    ) -> Call:
        return Call(
            id=exchange.id,
            endpoint=exchange.endpoint,
            body=body,
            principal=principal,
            headers=request.headers,
            model=name if isinstance(name := body.get("model", model), str) else None,
            stream=body.get("stream") is True,
            deadline=time.monotonic() + self._config.limits.call_seconds,
        )

    def readable(self, call: Call) -> Call:
        """The call with its prompt in text again, where it is sent in tokens that a tokenizer knows."""
        return self._tokenizers.readable(call)

    def _check(self, call: Call) -> Call:
        """The call with its body readable; raises ``InvalidRequest`` for one that is not taken here."""
        if call.endpoint in BODILESS:
            return call
        self._take(call)
        call = self._tokenizers.readable(call)
        self._scannable(call)
        return call

    def _take(self, call: Call) -> None:
        settings = self._config.parameters
        params.check(call.endpoint, call.body, steering=settings.refused)
        if settings.unknown == "refuse" and (names := params.unknown(call.endpoint, call.body)):
            raise InvalidRequest(
                f"The parameter {names[0][:64]!r} is not taken by this gateway.",
                code="unknown_parameter",
                param=names[0][:64],
            )

    def _scannable(self, call: Call) -> None:
        if self._config.parameters.unscannable == "refuse" and (
            places := params.unscannable(call.endpoint, call.body)
        ):
            raise _unscannable(places[0])

    def _rewrite(self, call: Call, exchange: Exchange) -> Call:
        result = chain.rewrite_request(self._parts.chain.rewrite_request, call, exchange.trail)
        if isinstance(result, Deny):
            raise Denied(result, exchange.trail.verdicts[-1].plugin)
        if result.body is call.body or call.endpoint in BODILESS:
            return self._metered(result, exchange)
        try:
            return self._metered(self._check(result), exchange)
        except InvalidRequest as error:
            by = next(v.plugin for v in reversed(exchange.trail.verdicts) if v.verdict == "rewrite")
            log.exception("plugin %s made a body that cannot be sent", by)
            raise Denied(fault_denial(by), by) from error

    def _metered(self, call: Call, exchange: Exchange) -> Call:
        """The call with its usage asked for, where a plugin will want to know."""
        wanted = self._config.metering.ask_usage and any(
            step.scope is None or step.scope.covers_call(call) for step in self._accounting
        )
        asked = asking(call) if wanted else None
        exchange.hides_usage = asked is not None
        return asked or call

    def _admit(self, call: Call, exchange: Exchange) -> Call:
        admitted = admit(self._parts.chain.admit, call, exchange.trail)
        if isinstance(admitted, Deny):
            raise Denied(admitted, exchange.trail.verdicts[-1].plugin)
        return call.replace(reply_headers={**call.reply_headers, **admitted}) if admitted else call

    def _approve(self, call: Call, exchange: Exchange) -> None:
        self._parts.teams.check(call)
        refusal = chain.guard_request(self._parts.chain.guard_request, call, exchange.trail)
        if refusal is not None:
            raise Denied(*refusal)

    def _guard(self, call: Call, exchange: Exchange) -> Call:
        self._approve(call, exchange)
        screened = self._screen.judge(call, exchange.trail)
        if screened.refusal is not None:
            raise Denied(*screened.refusal)
        exchange.vault = screened.vault
        return call if screened.body is call.body else call.replace(body=screened.body)


def _no_mask() -> Deny:
    return Deny(
        "A value that was set for one upstream holds what policy masks or removes: send the call without it."
    )


def _unscannable(place: str) -> InvalidRequest:
    return InvalidRequest(
        f"{place} cannot be scanned by this gateway, so it is not sent: send text, or ask the operator to set"
        ' parameters.unscannable = "allow".',
        code="token_prompt_not_scannable"
        if place.startswith(("prompt", "input"))
        else "not_scannable",
        param=place,
    )


def _count(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 4 else 0  # noqa: PLR2004
