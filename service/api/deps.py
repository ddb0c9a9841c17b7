"""What endpoints are given."""

from typing import Annotated, cast

from fastapi import Depends, Request

from service.domain.access import LOCAL, Caller
from service.usecases.world import World


def _world(request: Request) -> World:
    return cast("World", request.app.state.world)


def _caller() -> Caller:
    return LOCAL


WorldDep = Annotated[World, Depends(_world)]
CallerDep = Annotated[Caller, Depends(_caller)]
