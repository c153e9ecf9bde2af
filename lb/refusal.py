"""How the API says no: one shape of body, a closed list of codes (`schema.ErrorCode`)."""

from __future__ import annotations

from typing import Final

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from lb import schema


class Refused(Exception):
    """A request that is not carried out."""

    def __init__(self, status: int, code: schema.ErrorCode, message: str) -> None:
        self.status = status
        self.code = code
        self.message = message
        super().__init__(message)


ANSWERED_HERE: Final[tuple[type[Exception], ...]] = (
    Refused,
    RequestValidationError,
    HTTPException,
    Exception,
)


async def answer(request: Request, error: Exception) -> JSONResponse:
    """The response to a request that raised `error`."""
    refused = _as_refused(request, error)
    body = schema.Failure(error=schema.Problem(code=refused.code, message=refused.message))
    return JSONResponse(body.model_dump(), refused.status)


def _as_refused(request: Request, error: Exception) -> Refused:
    asked = f"{request.method} {request.url.path}"
    match error:
        case Refused():
            return error
        case RequestValidationError():
            problems = [f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in error.errors()]
            return Refused(422, "invalid_request", "; ".join(problems))
        case HTTPException(status_code=404):
            return Refused(404, "not_found", f"{asked}: there is nothing here")
        case HTTPException(status_code=405):
            return Refused(405, "method_not_allowed", f"{asked}: not with this method")
        case HTTPException():
            return Refused(error.status_code, "invalid_request", f"{asked}: {error.detail}")
    return Refused(500, "internal_error", f"{asked} failed; the daemon's log says why")
