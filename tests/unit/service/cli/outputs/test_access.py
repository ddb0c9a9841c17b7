"""Output of projects and the audit log."""

from datetime import timedelta

from service.api.schemas.access import AuditPage, AuditView, ProjectView
from tests.support.cli.outputs import CommandLine
from tests.support.service.run_views import NOW


def test_projects(command_line: CommandLine) -> None:
    projects = [
        ProjectView(name="default", weight=1.0, max_runs=None, max_gpus=None),
        ProjectView(name="microscopy-of-blood-cells", weight=2.5, max_runs=4, max_gpus=2),
    ]

    command_line.check("projects_list", "projects", "list", api={"GET /v1/projects": projects})


def test_audit(command_line: CommandLine) -> None:
    entries = [
        AuditView(
            id=2,
            at=NOW,
            actor="ada",
            method="POST",
            path="/v1/runs/r0123456789ab:prioritize",
            status=200,
            request_id="4bf92f3577b34da6a3ce929d0e0e4736",
            address="192.168.100.200",
            run_id="r0123456789ab",
            token_id="00f067aa0b",
        ),
        AuditView(
            id=1,
            at=NOW - timedelta(minutes=3),
            actor="user",
            method="PUT",
            path="/v1/projects/microscopy-of-blood-cells",
            status=403,
            request_id="00f067aa0ba902b74bf92f3577b34da6",
            address="127.0.0.1",
            run_id=None,
            token_id=None,
        ),
    ]

    command_line.check(
        "audit", "audit", api={"GET /v1/audit": AuditPage(items=entries, next_cursor=None)}
    )
