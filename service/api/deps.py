"""What endpoints are given."""

from typing import Annotated, cast

from fastapi import Depends, Request

from service.api.middleware.auth import caller_of, driver_of, known_caller_of
from service.domain.access import Caller
from service.usecases.context import World


def _world(request: Request) -> World:
    return cast("World", request.app.state.world)


WorldDep = Annotated[World, Depends(_world)]
CallerDep = Annotated[Caller, Depends(caller_of)]
KnownCallerDep = Annotated[Caller | None, Depends(known_caller_of)]
DriverDep = Annotated[int | None, Depends(driver_of)]
