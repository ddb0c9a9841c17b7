"""Dependencies that FastAPI injects into endpoints."""

from typing import Annotated, cast

from fastapi import Depends, Request

from service.api.middleware.auth import get_caller, get_driver_number, get_optional_caller
from service.domain.access import Caller
from service.usecases.context import Context


def _get_context(request: Request) -> Context:
    return cast("Context", request.app.state.ctx)


ContextDep = Annotated[Context, Depends(_get_context)]
CallerDep = Annotated[Caller, Depends(get_caller)]
OptionalCallerDep = Annotated[Caller | None, Depends(get_optional_caller)]
DriverDep = Annotated[int | None, Depends(get_driver_number)]
