"""What the demo upstream says when it will not answer: errors in OpenAI's envelope."""

from http import HTTPStatus
from typing import Any


class Refused(Exception):
    """An answer that is an error (OpenAI API reference, error codes)."""

    def __init__(
        self, message: str, *, status: int = 400, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.param = param
        self.code = code

    def body(self) -> dict[str, Any]:
        """The error envelope: message, type, param, code."""
        failed = self.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        return {
            "error": {
                "message": self.message,
                "type": "server_error" if failed else "invalid_request_error",
                "param": self.param,
                "code": self.code,
            }
        }


def unknown_model(model: str) -> Refused:
    """404 for a model that is not served here."""
    return Refused(
        f"The model '{model}' does not exist or you do not have access to it.",
        status=404,
        param="model",
        code="model_not_found",
    )


def wrong_kind(kind: str) -> Refused:
    """The refusal of a model that exists, but answers on another route than `kind`."""
    if kind == "embeddings":
        return Refused(
            "You are not allowed to generate embeddings from this model.", status=403, param="model"
        )
    this, route, other = (
        ("a chat model and not", "v1/completions", "v1/chat/completions")
        if kind == "completions"
        else ("not a chat model and thus not", "v1/chat/completions", "v1/completions")
    )
    return Refused(
        f"This is {this} supported in the {route} endpoint. Did you mean to use {other}?",
        status=404,
        param="model",
    )


def wrong_type(name: str, expected: str, value: object) -> Refused:
    """400 for a value of another JSON type than `name` takes."""
    return Refused(
        f"Invalid type for '{name}': expected {expected}, but got {_kind(value)} instead.",
        param=name,
        code="invalid_type",
    )


def out_of_range(name: str, bound: float, value: float) -> Refused:
    """400 for a number beyond the `bound` of `name`."""
    kind = "integer" if isinstance(value, int) and isinstance(bound, int) else "decimal"
    side, sign, short = (
        ("below minimum", ">=", "below_min")
        if value < bound
        else (
            "above maximum",
            "<=",
            "above_max",
        )
    )
    return Refused(
        f"Invalid '{name}': {kind} {side} value. "
        f"Expected a value {sign} {bound}, but got {value} instead.",
        param=name,
        code=f"{kind}_{short}_value",
    )


def _kind(value: object) -> str:
    kinds = {
        type(None): "null",
        bool: "a boolean",
        int: "an integer",
        float: "a decimal",
        str: "a string",
        list: "an array",
    }
    return kinds.get(type(value), "an object")
