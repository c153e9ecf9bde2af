"""How the API says no: one shape of body, a closed list of codes (`schema.ErrorCode`)."""

from __future__ import annotations

from typing import Final

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from lb.api import schema


class ApiError(Exception):
    """A request that is not carried out."""

    def __init__(self, status: int, code: schema.ErrorCode, message: str) -> None:
        self.status = status
        self.code = code
        self.message = message
        super().__init__(message)


ANSWERED_HERE: Final[tuple[type[Exception], ...]] = (
    ApiError,
    RequestValidationError,
    HTTPException,
    Exception,
)


async def answer(request: Request, error: Exception) -> JSONResponse:
    """The response to a request that raised `error`."""
    failure = _as_api_error(request, error)
    body = schema.Failure(error=schema.Problem(code=failure.code, message=failure.message))
    return JSONResponse(body.model_dump(), failure.status)


def _as_api_error(request: Request, error: Exception) -> ApiError:
    asked = f"{request.method} {request.url.path}"
    match error:
        case ApiError():
            return error
        case RequestValidationError():
            problems = [f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in error.errors()]
            return ApiError(422, "invalid_request", "; ".join(problems))
        case HTTPException(status_code=404):
            return ApiError(404, "not_found", f"{asked}: there is nothing here")
        case HTTPException(status_code=405):
            return ApiError(405, "method_not_allowed", f"{asked}: not with this method")
        case HTTPException():
            return ApiError(error.status_code, "invalid_request", f"{asked}: {error.detail}")
    return ApiError(500, "internal_error", f"{asked} failed; the daemon's log says why")
