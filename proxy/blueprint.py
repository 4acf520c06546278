"""The routes: exactly the endpoints we serve; everything else is a 404 in OpenAI's error shape."""

import json
import os
import re
from collections.abc import Iterable
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from flask import Blueprint, Flask, Response, current_app, request, signals
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from proxy.errors import ApiError
from proxy.exchange import Answer
from proxy.model import Endpoint
from proxy.openapi import POSTED, as_json
from proxy.pipeline import Pipeline

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

KEY: Final = "outgate"
#: Paths of calls with a body; each endpoint also without /v1, as below.
_DIRECT: Final = {
    prefix + path: endpoint for prefix in ("/v1", "") for endpoint, path in POSTED.items()
}
_SIGNALS: Final = (
    signals.appcontext_pushed,
    signals.request_started,
    signals.request_finished,
    signals.request_tearing_down,
    signals.appcontext_tearing_down,
    signals.appcontext_popped,
)
_LINE_END: Final = re.compile(r"[\r\n]")
blueprint: Final = Blueprint("outgate", __name__)


def pipeline() -> Pipeline:
    """The pipeline of the running application."""
    found: Pipeline = current_app.extensions[KEY]
    return found


def _serve(endpoint: Endpoint, model: str | None = None) -> Response:
    if (
        request.method == "HEAD"
    ):  # werkzeug adds it to every GET; it would cost a call and show nothing
        raise ApiError(
            "HEAD is not offered here.",
            status=405,
            type="invalid_request_error",
            code="method_not_allowed",
        )
    return _answered(pipeline().handle(request.environ, endpoint, model))


class Checked(Headers):
    """Headers that were checked where they came from, one by one; here once more, all together.

    Raises ``ValueError`` for one that would end its line.
    """

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        if _LINE_END.search("".join(chain.from_iterable(pairs))):
            raise ValueError("a header of the reply holds the end of a line")
        self._list = pairs


class _Answered(Response):
    """An answer whose headers are complete: there is nothing to add to or to correct in them."""

    def get_wsgi_headers(self, _environ: Any) -> Headers:
        return self.headers


def _answered(answer: Answer) -> Response:
    headers = Checked(answer.headers)
    return _Answered(answer.body, answer.status, headers, direct_passthrough=True)


class Direct:
    """Middleware: calls with a body go to the pipeline without Flask's contexts, a sixth of a bare call's time.

    Unless somebody set up something that Flask does around requests: then everything goes to Flask, as all else does.
    """

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._others = app.wsgi_app
        self._pipeline: Pipeline = app.extensions[KEY]

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Answer as a WSGI application does (PEP 3333)."""
        posted = environ["REQUEST_METHOD"] == "POST"
        endpoint = _DIRECT.get(environ.get("PATH_INFO", "")) if posted else None
        if endpoint is None or self._is_watched():
            return self._others(environ, start_response)
        try:
            response = _answered(self._pipeline.handle(environ, endpoint))
        except Exception as error:  # noqa: BLE001 - logged there, as Flask would have it
            response = _error_response(self._app, error)
        return response(environ, start_response)

    def _is_watched(self) -> bool:
        app = self._app
        around = (
            app.url_value_preprocessors,
            app.before_request_funcs,
            app.after_request_funcs,
            app.teardown_request_funcs,
        )
        for functions in around:
            if None in functions or blueprint.name in functions:
                return True
        return bool(app.teardown_appcontext_funcs) or any(signal.receivers for signal in _SIGNALS)


# Each endpoint also without /v1: some SDKs are configured with a base URL that stops before it.
for _prefix in ("/v1", ""):
    for _endpoint, _path in POSTED.items():
        blueprint.add_url_rule(
            _prefix + _path,
            endpoint=_endpoint + _prefix.replace("/", "_"),
            view_func=_serve,
            defaults={"endpoint": _endpoint},
            methods=["POST"],
            provide_automatic_options=False,
        )
    blueprint.add_url_rule(
        f"{_prefix}/models",
        endpoint="models" + _prefix.replace("/", "_"),
        view_func=_serve,
        defaults={"endpoint": "models"},
        methods=["GET"],
        provide_automatic_options=False,
    )
    blueprint.add_url_rule(
        f"{_prefix}/models/<path:model>",
        endpoint="model" + _prefix.replace("/", "_"),
        view_func=_serve,
        defaults={"endpoint": "model"},
        methods=["GET"],
        provide_automatic_options=False,
    )


@blueprint.get("/healthz", provide_automatic_options=False)
def healthz() -> Response:
    """The process is alive: always 200."""
    return _json({"status": "ok"}, 200)


@blueprint.get("/readyz", provide_automatic_options=False)
def readyz() -> Response:
    """Whether calls are taken, and the digest of the chain and policy they would meet: 200 or 503."""
    running = pipeline()
    obstacles = running.obstacles()
    body = {
        "status": "not ready" if obstacles else "ready",
        "reasons": obstacles,
        "digest": running.parts.digest,
        "calls": running.gate.inside,
        "capacity": running.gate.capacity,
    }
    return _json(body, 503 if obstacles else 200)


@blueprint.get("/openapi.json", provide_automatic_options=False)
def openapi() -> Response:
    """The API as a document; the same for every configuration, so anyone may read it."""
    return Response(as_json(), 200, content_type="application/json")


def install_errors(app: Flask) -> None:
    """Have every error that no endpoint answers for leave in OpenAI's shape, with a request id."""
    app.register_error_handler(Exception, partial(_error_response, app))


def _error_response(app: Flask, error: Exception) -> Response:
    if isinstance(error, ApiError):
        told = error
    elif isinstance(error, HTTPException):
        told = _http_error(error)
    else:
        app.logger.error("unexpected error", exc_info=error)
        told = ApiError("Something went wrong in this gateway; tell its operator the request id.")
    response = _json(told.body(), told.status)
    response.headers.update(told.headers())
    response.headers["x-request-id"] = f"req_{os.urandom(16).hex()}"
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        response.headers["allow"] = ", ".join(sorted(error.valid_methods))
    return response


def _http_error(error: HTTPException) -> ApiError:
    status = error.code or 500
    if status == 404:  # noqa: PLR2004 - the status itself
        message = (
            f"Unknown URL ({request.method} {request.path[:128]}). Served here: POST /v1/completions,"
            " /v1/chat/completions, /v1/embeddings; GET /v1/models, /v1/models/{id}."
        )
        return ApiError(message, status=404, type="invalid_request_error", code="unknown_url")
    if status == 405:  # noqa: PLR2004 - the status itself
        message = f"{request.method} is not allowed on {request.path[:128]}."
        return ApiError(
            message, status=405, type="invalid_request_error", code="method_not_allowed"
        )
    kind, code = ("invalid_request_error", "bad_request")
    if status >= 500:  # noqa: PLR2004 - HTTP's own line
        kind, code = "server_error", "internal_error"
    return ApiError(error.name, status=status, type=kind, code=code)


def _json(body: dict[str, Any], status: int) -> Response:
    return Response(json.dumps(body), status, content_type="application/json")
