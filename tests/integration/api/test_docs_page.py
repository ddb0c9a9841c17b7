"""The documentation page of the API works without other hosts."""

import re

from tests.support.service.stage import Stage


def test_the_page_loads_nothing_from_elsewhere(stage: Stage) -> None:
    page = stage.http.get("/docs")

    assert page.status_code == 200
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(loaded) == 4
    for path in loaded:
        assert path.startswith("/docs/")
        assert stage.http.get(path).status_code == 200
    assert "<script>" not in page.text


def test_the_bare_address_leads_to_the_page(stage: Stage) -> None:
    response = stage.http.get("/")

    assert response.status_code == 307  # not permanent: browsers would keep it
    assert response.headers["location"] == "/docs"
    assert stage.http.get("/", follow_redirects=True).text == stage.http.get("/docs").text


def test_its_policy_allows_only_files_of_the_same_origin(stage: Stage) -> None:
    policy = stage.http.get("/docs").headers["Content-Security-Policy"]

    assert "https:" not in policy
    assert "unsafe" not in policy
    assert "script-src 'self'" in policy
    assert "script-src" not in stage.http.get("/v1/runs").headers["Content-Security-Policy"]


def test_its_script_has_the_right_type_and_version(stage: Stage) -> None:
    bundle = stage.http.get("/docs/swagger-ui-bundle.js")

    assert bundle.headers["content-type"].startswith("text/javascript")
    assert re.search(r'PACKAGE_VERSION:"5\.', bundle.text), (
        "older versions do not support OpenAPI 3.1"
    )


def test_no_other_files_are_served(stage: Stage) -> None:
    for path in ("/docs/core.py", "/docs/..%2fcore.py", "/docs/none", "/redoc"):
        assert stage.http.get(path).status_code == 404
