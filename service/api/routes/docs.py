"""The API's documentation at /docs: Swagger UI from an installed package, without a CDN."""

from importlib.resources import files

from fastapi import HTTPException, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from service.api.routers import create_router

router = create_router(prefix="", tag=None)

_PACKAGE = "fastapi_offline"
"""Only its static files are used: Swagger UI 5, which supports OpenAPI 3.1."""

_FILES = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon.png": "image/png",
}
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Tandem</title>
<link rel="icon" href="/docs/favicon.png">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="api"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
_START = """SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#api",
  deepLinking: true,
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
});
"""
"""A separate file, so that the Content-Security-Policy need not allow inline scripts."""


@router.get("/")
def redirect_to_docs() -> RedirectResponse:
    """Lead a browser to the documentation; a temporary redirect, which browsers do not keep."""
    return RedirectResponse("/docs")


@router.get("/docs")
def show_page() -> HTMLResponse:
    """The HTML page of Swagger UI."""
    return HTMLResponse(_PAGE)


@router.get("/docs/{name}")
def show_file(name: str) -> Response:
    """A script, style sheet or icon of the page."""
    if name == "start.js":
        return Response(_START, media_type="text/javascript")
    if name not in _FILES:
        raise HTTPException(404)
    content = files(_PACKAGE).joinpath("static", name).read_bytes()
    return Response(content, media_type=_FILES[name])
