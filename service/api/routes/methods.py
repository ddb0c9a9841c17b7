"""The distillation methods of Tandem and of the packages that the workers have."""

from typing import get_args

from fastapi import status

from configs.spec.distillation import Method
from service.api.deps import ContextDep
from service.api.routers import create_router
from service.api.schemas.methods import MethodsView, OwnMethodView
from service.domain.planning.methods import CatalogState
from service.usecases.methods import look_up_methods, refresh_methods

router = create_router(tag="methods")


@router.get("/methods")
def list_methods(ctx: ContextDep) -> MethodsView:
    """All methods, with the JSON Schema of the fields of those from other packages."""
    return _to_view(look_up_methods(ctx=ctx))


@router.post("/methods:refresh", status_code=status.HTTP_202_ACCEPTED)
def refresh_methods_of_workers(ctx: ContextDep) -> MethodsView:
    """Ask the workers again, after a package was installed there; the answer takes some seconds."""
    return _to_view(refresh_methods(ctx=ctx))


def _to_view(state: CatalogState) -> MethodsView:
    catalog = state.catalog
    return MethodsView(
        own=[
            OwnMethodView(
                name=spec_type.name(),
                title=spec_type.traits.title,
                needs_labels=spec_type.traits.needs_labels,
            )
            for spec_type in get_args(Method)
        ],
        installed=[] if catalog is None else list(catalog.methods),
        problems=[] if catalog is None else list(catalog.problems),
        answer="pending" if state.is_pending else "none" if catalog is None else "received",
        failure=state.problem,
    )
