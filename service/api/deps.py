"""Dependencies that FastAPI injects into endpoints."""

from dataclasses import replace
from typing import Annotated, cast

from fastapi import Depends, Request

from service.api.middleware.auth import get_caller, get_driver_number, get_optional_caller
from service.domain.access import Caller
from service.usecases.audit import AuditedStore, AuditTrail
from service.usecases.context import Context


def _get_context(request: Request) -> Context:
    """The context of the service; that of an audited request stores its audit entry."""
    ctx = cast("Context", request.app.state.ctx)
    trail = request.scope["state"].get("audit_trail")
    if not isinstance(trail, AuditTrail):
        return ctx
    return replace(ctx, store=AuditedStore(ctx.store, trail))


ContextDep = Annotated[Context, Depends(_get_context)]
CallerDep = Annotated[Caller, Depends(get_caller)]
OptionalCallerDep = Annotated[Caller | None, Depends(get_optional_caller)]
DriverDep = Annotated[int | None, Depends(get_driver_number)]
