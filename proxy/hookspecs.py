"""The hooks: what a plugin may implement, when it is called, and what an error in it means.

A plugin is a module with hook implementations, or a frozen dataclass (or msgspec Struct) of options
whose methods are hook implementations. It may ask for fewer arguments than a hook offers.
Hooks run in the order of the ``[[plugins]]`` entries. There is no hook per chunk of a stream: plugins
see complete requests and complete replies.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, TypeVar, get_args

import pluggy

from proxy.detect.detector import Detector
from proxy.errors import ConfigError, nearest
from proxy.model import Admission, Call, Choice, Deny, Endpoint, Principal, Provider, Reply, Request
from proxy.records import Denial, Failure, Record

if TYPE_CHECKING:
    from flask import Flask

PROJECT: Final = "outgate"
hookspec: Final = pluggy.HookspecMarker(PROJECT)
hookimpl: Final = pluggy.HookimplMarker(PROJECT)

_F = TypeVar("_F", bound=Callable[..., Any])


def only(*endpoints: str) -> Callable[[_F], _F]:
    """Limit a hook implementation to some endpoints; the operator's ``when`` can only narrow them further.

    Raises ``ConfigError`` for an endpoint that does not exist.

    A ``rewrite_response`` for endpoints that never stream leaves the streams of all others unbuffered::

        @hookimpl
        @only("models")
        def rewrite_response(self, call, reply): ...
    """
    known = get_args(Endpoint)
    for endpoint in endpoints:
        if endpoint not in known:
            raise ConfigError(
                f"@only: no endpoint {endpoint!r}.{nearest(endpoint, known)} There are: {', '.join(known)}"
            )
    if not endpoints:
        raise ConfigError(f"@only names no endpoint: name some of {', '.join(known)}, or remove it")

    def mark(function: _F) -> _F:
        function.outgate_only = endpoints  # type: ignore[attr-defined]
        return function

    return mark


@hookspec
def init_app(app: "Flask") -> None:
    """Once per process, when the application is made: add blueprints or command line commands.

    Calls to the API are answered without Flask's contexts around them, so no other hook may ask for
    ``flask.request``. Where a function is set for every request (``app.before_request``, a signal), they are
    answered with them, and a sixth slower; middleware around ``app.wsgi_app`` costs nothing.

    Returns nothing. An error stops the start. Streams: not concerned.

    Example::

        @hookimpl
        def init_app(app):
            app.register_blueprint(status_page)
    """


@hookspec
def detectors() -> Iterable[Detector]:
    """Once per process: yield the detectors whose findings ``[policy]`` decides about.

    A detector finds; the operator decides (``allow``, ``monitor``, ``mask``, ``redact``, ``deny``; a kind that
    no rule names is denied in requests and allowed in replies). An error stops the start; an error while
    detecting denies the call. Streams: searched as they come, with the result of the whole text.

    Example::

        @hookimpl
        def detectors():
            yield Detector.regex("employee-id", r"E-[0-9]{6}")
    """
    raise NotImplementedError


@hookspec
def providers() -> Iterable[Provider]:
    """Once per process: yield the kinds of upstream this plugin can speak to.

    An error, or a name that is taken, stops the start. Streams: not concerned.

    Example::

        @hookimpl
        def providers():
            yield Provider(name="openai", base_url="https://api.openai.com/v1")
    """
    raise NotImplementedError


@hookspec
def identify(request: Request) -> Principal | None:
    """Once per call, before the body is read: say who calls, or None for "not mine to say".

    The first answer that is not None counts; when nobody knows, the caller gets the constant 401.
    The only hook that sees credentials. An error denies (500). Streams: not concerned.

    Example::

        @hookimpl
        def identify(request):
            key = request.credentials.caller
            return Principal("ci") if key and key == CI_KEY else None
    """
    raise NotImplementedError


@hookspec
def rewrite_request(call: Call) -> Call | Deny | None:
    """Once per call, in order: return the next call, or None for "no change"; a ``Deny`` refuses.

    May change the body, ``reply_headers`` and ``notes``, nothing else; model and stream follow the body.
    An error denies. Streams: as whole replies, nothing was sent yet.

    Example::

        @hookimpl
        def rewrite_request(call):
            return call.with_body(user=call.principal.name)
    """
    raise NotImplementedError


@hookspec
def guard_request(call: Call) -> Deny | None:
    """Once per call, in order, on the final body: return a ``Deny`` to refuse it, None to let it pass.

    The first Deny is final. An error denies, unless the operator wrote ``on_error = "allow"``.
    Streams: as whole replies, nothing was sent yet.

    Example::

        @hookimpl
        def guard_request(call):
            if any("strictly confidential" in text.value.lower() for text in call.texts()):
                return Deny("Confidential documents stay in the company.")
    """
    raise NotImplementedError


@hookspec
def admit(call: Call) -> Admission | Deny | None:
    """Once per call and body, in order, when it would be sent: reserve what it may cost, or return a ``Deny``.

    The body is exactly what will be sent. The first Deny is final. What was reserved is given back or
    settled in ``log_exchange``, which is told of every call (``record.id`` is ``call.id``), also of one
    that a later plugin refuses. An error denies; ``raise Unavailable`` answers 503 where the state that
    decides is away. Streams: as whole replies, nothing was sent yet.

    Asked again, with the same ``call.id``, each time another body is to be sent, for example to a fallback that
    knows the model by another name: what is granted then takes the place of what was granted before. After a Deny
    nothing more is sent, and what was granted before is settled with the end of the call.

    Example::

        @hookimpl
        def admit(call):
            left = QUOTA.take(call.principal.name, call.id)
            if left < 0:
                return Deny("Today's calls are used up.", "insufficient_quota", status=429)
            return Admission({"x-calls-left": str(left)})
    """
    raise NotImplementedError


@hookspec
def answer_request(call: Call) -> Reply | Deny | None:
    """Once per call, in order, when it is admitted and before an upstream is chosen: answer it from here, or None.

    The body is exactly what would be sent. The first ``Reply`` is the answer, and nothing is sent: its status is
    200, its headers ``x-*`` and ``age``. It goes back as an upstream's does, through ``rewrite_response`` and the
    policy. A ``Deny`` refuses. Calls in which something was masked are not offered. An error denies. Streams: the
    answer is complete, and sent as a stream where the caller asked for one.

    Example::

        @hookimpl
        def answer_request(call):
            if call.endpoint == "completions" and call.model == "office-hours":
                return Reply(status=200, body={"choices": [{"index": 0, "text": "Nine to five."}]})
    """
    raise NotImplementedError


@hookspec
def choose_upstream(call: Call, failures: tuple[Failure, ...]) -> str | Choice | Deny | None:
    """Before the call is sent, and again after each try that its last choice wants another one for.

    Return the name of a configured upstream, a ``Choice`` that says more, a ``Deny``, or None to leave the choice
    to the next plugin and then to ``[[routes]]``. After a bare name the next choice is asked for only when the
    call cannot have arrived. An error ends the call with 502. Streams: only before the first byte.

    Example::

        @hookimpl
        def choose_upstream(call, failures):
            return "backup" if failures else Choice(upstream="main", again_on=frozenset({429, 503}))
    """
    raise NotImplementedError


@hookspec
def rewrite_response(call: Call, reply: Reply) -> Reply | Deny | None:
    """Once per call, in order, on the complete reply: return the next reply, a ``Deny``, or None.

    May change the body and ``notes``, not the status. An error denies. Streams: buffered to their end, handed over as
    one complete reply and sent on as a stream again; the log says so at start.

    Example::

        @hookimpl
        def rewrite_response(call, reply):
            return reply.with_body(system_fingerprint="hidden") if reply.status == 200 else None
    """
    raise NotImplementedError


@hookspec
def rewrite_denial(call: Call, denial: Denial, reply: Reply) -> Reply | None:
    """Once per call that a plugin or the policy refused, in order: tell of it in the caller's dialect.

    ``reply`` is the refusal as it would be told; return one with another status (400 to 599) and body, or
    None. The call stays refused, whatever is returned; an error changes nothing. Streams: not concerned once
    they have begun, and as whole replies before.

    Example::

        @hookimpl
        def rewrite_denial(denial, reply):
            return reply.replace(status=451) if denial.findings else None
    """
    raise NotImplementedError


@hookspec
def log_exchange(record: Record, required: bool) -> None:
    """Exactly once per call, after its last byte, whatever its end; only a killed process tells nobody.

    Everyone is told; an error is logged and kept from the others. While a ``required`` sink fails,
    further calls are refused with 503; a sink that hands records on later raises ``Undelivered`` then if
    ``required``, which is what the operator wrote, and drops and counts them if not. Streams: after the last event.

    Example::

        @hookimpl
        def log_exchange(record):
            print(record.id, record.outcome, record.status)
    """


@hookspec
def observe_response(call: Call, reply: Reply) -> None:
    """Once per call that an upstream answered in full with status 200, after its last byte and its record.

    ``reply`` is what the upstream said, before anybody changed it; ``call`` is what ``answer_request`` was shown.
    Not told of what was refused on its way back, of what a plugin answered, and of calls in which something was
    masked. Everyone is told; an error is logged and kept from the others. Streams: as the complete reply that their
    events say, up to 4 MiB of them; nothing is held back for it.

    Example::

        @hookimpl
        def observe_response(call, reply):
            print(call.id, reply.body.get("usage"))
    """
    raise NotImplementedError
