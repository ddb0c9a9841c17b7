"""Headers and statuses that several endpoints set alike."""

from fastapi import Response, status


def describe_launch(response: Response, location: str, *, is_new: bool) -> None:
    """Set the location of what was launched; the status is 200 if an earlier request launched it,
    instead of the 201 of the route."""
    response.headers["Location"] = location
    if not is_new:
        response.status_code = status.HTTP_200_OK
