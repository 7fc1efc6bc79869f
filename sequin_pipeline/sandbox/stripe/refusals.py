"""This module writes errors in Stripe's form, and never the key that was sent."""

from http import HTTPStatus

from starlette.responses import Response

from sequin_pipeline.sandbox.answers import json_answer


class StripeError(Exception):
    """The API refuses a request; becomes `{"error": {…}}`, with a code and the parameter at fault where Stripe names them."""

    def __init__(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param


def missing(kind: str, object_id: str, *, status: int = 404, param: str = "id") -> StripeError:
    """Returns the error for an object that is not there."""
    return StripeError(status, f"No such {kind}: {object_id!r}", code="resource_missing", param=param)


def refused_parameter(param: str, reason: str, *, code: str | None = None) -> StripeError:
    return StripeError(400, f"{param}: {reason}", code=code, param=param)


def refusal_answer(error: StripeError) -> Response:
    kind = "api_error" if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
    told = {"type": kind, "message": error.message, "code": error.code, "param": error.param}
    return json_answer({"error": {name: value for name, value in told.items() if value is not None}}, error.status)
