"""The API as an OpenAPI 3.1 document, made of the tables that the checks use; it tells nothing of a configuration."""

import json
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Final

from proxy.model import STREAMED, Endpoint
from proxy.param_tables import STEERING, STREAM_OPTIONS, TABLES, Kind, Param
from proxy.wire import KEY_HEADERS

Schema = dict[str, Any]

#: Where the endpoints with a body are served.
POSTED: Final[Mapping[Endpoint, str]] = {
    "completions": "/completions",
    "chat": "/chat/completions",
    "embeddings": "/embeddings",
}
_SUMMARIES: Final[Mapping[Endpoint, str]] = {
    "completions": "Complete a text",
    "chat": "Go on with a conversation",
    "embeddings": "Turn texts into vectors",
    "models": "List the models",
    "model": "Describe a model",
}
# What JSON integers are read: those of 64 bits, with a sign or without one.
_INTEGER: Final[Schema] = {"type": "integer", "minimum": -(2**63), "maximum": 2**64 - 1}
_OBJECT: Final[Schema] = {"type": "object"}
_KINDS: Final[Mapping[Kind, Schema]] = {
    "string": {"type": "string"},
    "integer": _INTEGER,
    "number": {"type": "number"},
    "boolean": {"type": "boolean"},
    "object": _OBJECT,
    "[string]": {"type": "array", "items": {"type": "string"}},
    "[integer]": {"type": "array", "items": _INTEGER},
    "[[integer]]": {
        "type": "array",
        "items": {"type": "array", "minItems": 1, "items": _INTEGER},
    },
    "[object]": {"type": "array", "items": _OBJECT},
    "{string: number}": {"type": "object", "additionalProperties": {"type": "number"}},
}
_TEXT_HEADER: Final[Schema] = {"schema": {"type": "string"}}
_HEADERS: Final[Schema] = {
    "x-request-id": {**_TEXT_HEADER, "description": "The upstream's id of the call, or ours."},
    "x-outgate-id": {**_TEXT_HEADER, "description": "The id of the call in the log."},
    "x-should-retry": {
        "description": "false: another try will end the same.",
        "schema": {"const": "false"},
    },
    "retry-after": {
        "description": "Seconds until another try makes sense.",
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
    },
}
_ERRORS: Final[Mapping[int, str]] = {
    400: "Not valid, or refused by a guardrail or policy",
    401: "No known key",
    403: "Not for this key",
    404: "No such model or endpoint",
    405: "Another method",
    413: "Too large",
    415: "Not plain JSON in UTF-8",
    429: "A limit or a budget is used up",
    500: "A fault of this gateway or of a plugin",
    502: "The upstream gave no usable answer",
    503: "No place, or something that is needed is away",
    504: "The upstream did not answer in time",
}
_WITHOUT_BODY: Final = frozenset({413, 415})
_ERROR: Final[Schema] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_READINESS: Final[Schema] = {
    "type": "object",
    "required": ["status", "reasons", "digest", "calls", "capacity"],
    "properties": {
        "status": {"enum": ["ready", "not ready"]},
        "reasons": {"type": "array", "items": {"type": "string"}},
        "digest": {"type": "string"},
        "calls": {"type": "integer", "minimum": 0},
        "capacity": {"type": "integer", "minimum": 1},
    },
}


@cache
def as_json() -> str:
    """The document as ``GET /openapi.json`` answers it and ``outgate openapi`` prints it."""
    return json.dumps(document(), indent=2) + "\n"


def document() -> Schema:
    """The document: the same for every configuration, because plugins add no endpoint of this API."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Outgate",
            "version": "1",
            "description": "The part of OpenAI's API that this gateway serves, each path also without /v1.",
        },
        "security": [{name: []} for name in KEY_HEADERS],
        "paths": {**_calls(), **_health()},
        "components": {
            "schemas": {"Error": _ERROR, "Readiness": _READINESS},
            "securitySchemes": {name: _scheme(name) for name in KEY_HEADERS},
        },
    }


def _scheme(header: str) -> Schema:
    if header == "authorization":
        return {"type": "http", "scheme": "bearer"}
    return {"type": "apiKey", "in": "header", "name": header}


def _calls() -> Schema:
    found: Schema = {f"/v1{path}": {"post": _post(name)} for name, path in POSTED.items()}
    found["/v1/models"] = {"get": _get("models")}
    found["/v1/models/{model}"] = {
        "get": _get("model"),
        "parameters": [
            {
                "name": "model",
                "in": "path",
                "required": True,
                "schema": {"type": "string", "minLength": 1},
            }
        ],
    }
    return found


def _post(endpoint: Endpoint) -> Schema:
    answers = {"application/json": {"schema": _OBJECT}}
    if endpoint in STREAMED:
        answers["text/event-stream"] = {"schema": {"type": "string"}}
    return {
        "operationId": endpoint,
        "summary": _SUMMARIES[endpoint],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": body_schema(endpoint)}},
        },
        "responses": _responses(answers, _ERRORS),
    }


def _get(endpoint: Endpoint) -> Schema:
    answers = {"application/json": {"schema": _OBJECT}}
    errors = [status for status in _ERRORS if status not in _WITHOUT_BODY]
    return {
        "operationId": endpoint,
        "summary": _SUMMARIES[endpoint],
        "responses": _responses(answers, errors),
    }


def _responses(answers: Schema, errors: Iterable[int]) -> Schema:
    refusal = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    found: Schema = {
        "200": {
            "description": "The upstream's answer",
            "headers": {name: _HEADERS[name] for name in ("x-request-id", "x-outgate-id")},
            "content": answers,
        }
    }
    for status in errors:
        found[str(status)] = {
            "description": _ERRORS[status],
            "headers": _HEADERS,
            "content": refusal,
        }
    found["default"] = {"description": "An error of the upstream, passed on as it came"}
    return found


def body_schema(endpoint: Endpoint) -> Schema:
    """What a body must be for it to be read; limits that only some upstreams have are told in words."""
    table = TABLES[endpoint]
    properties = {name: _property(param) for name, param in table.items()}
    if "stream_options" in table:
        properties["stream_options"]["properties"] = {
            name: _property(param) for name, param in STREAM_OPTIONS.items()
        }
    return {
        "type": "object",
        "required": [name for name, param in table.items() if param.required],
        "properties": properties,
        "propertyNames": {"not": {"enum": sorted(STEERING)}},
    }


def _property(param: Param) -> Schema:
    kinds = [_KINDS[kind] for kind in param.types]
    if param.nullable:
        kinds.append({"type": "null"})
    schema: Schema = {**kinds[0]} if len(kinds) == 1 else {"anyOf": kinds}
    if param.name == "model":
        schema["minLength"] = 1
    words = [f"Upstreams take {param.default} where it is absent."] if param.default else []
    if limits := param.limits():
        words.append(f"Some upstreams take {limits} only.")
    if words:
        schema["description"] = " ".join(words)
    return schema


def _health() -> Schema:
    ready = {"application/json": {"schema": {"$ref": "#/components/schemas/Readiness"}}}
    alive = {"application/json": {"schema": {"type": "object", "required": ["status"]}}}
    itself = {"application/json": {"schema": _OBJECT}}
    return {
        "/healthz": _open("alive", "Whether the process lives", {"200": ("It does", alive)}),
        "/readyz": _open(
            "ready",
            "Whether calls are taken",
            {"200": ("They are", ready), "503": ("They are not, and why", ready)},
        ),
        "/openapi.json": _open("openapi", "This document", {"200": ("It", itself)}),
    }


def _open(name: str, summary: str, answers: Mapping[str, tuple[str, Schema]]) -> Schema:
    """An endpoint that asks for no key."""
    responses = {
        status: {"description": words, "content": content}
        for status, (words, content) in answers.items()
    }
    return {
        "get": {"operationId": name, "summary": summary, "security": [], "responses": responses}
    }
