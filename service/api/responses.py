"""Headers, statuses and bodies that several endpoints set alike."""

from fastapi import Response, status
from pydantic import BaseModel


def describe_launch(response: Response, location: str, *, is_new: bool) -> None:
    """Set the location of what was launched; the status is 200 if an earlier request launched it,
    instead of the 201 of the route."""
    response.headers["Location"] = location
    if not is_new:
        response.status_code = status.HTTP_200_OK


def make_json_response(view: BaseModel, *, status_code: int = status.HTTP_200_OK) -> Response:
    """The response of an endpoint with many requests, which passes its `response_model` itself.

    FastAPI would validate the view once more, in another thread.
    """
    return Response(view.model_dump_json(), status_code, media_type="application/json")
