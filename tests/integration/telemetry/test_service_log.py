"""The log of the service: one event per line, without secrets."""

import json
from pathlib import Path

import pytest

from service.domain.ports import JobRequest
from service.log import configure_logging, redact_secrets
from service.loops.reconcile import Reconciler
from tests.support.service.runs import submit_run
from tests.support.service.stage import Stage, open_stage


class TestLog:
    """One event per line, without secrets."""

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("token tdm_0123456789_abcDEF-_x was shown", "token td*_... was shown"),
            ("tdw_r1.2.abcdef", "td*_..."),
            ("Authorization: Bearer abc.def", "Authorization: Bearer ..."),
            ("postgresql://me:secret@host/db", "postgresql://me:...@host/db"),
            ("http://127.0.0.1:8700/v1/runs", "http://127.0.0.1:8700/v1/runs"),
        ],
    )
    def test_secrets_are_not_written(self, text: str, expected: str) -> None:
        assert redact_secrets(text) == expected

    def test_as_json_a_line_is_a_document_with_the_request(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with open_stage(tmp_path, log_format="json") as stage:
            stage.http.get("/v1/runs", headers={"X-Request-ID": "mine"})
        configure_logging()

        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]

        (line,) = [line for line in lines if line["event"] == "request"]
        assert (line["request_id"], line["path"], line["status"]) == ("mine", "/v1/runs", 200)

    def test_what_a_loop_says_names_its_run(
        self, stage: Stage, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run_id = submit_run(stage)

        def fail(_: JobRequest) -> None:
            raise ZeroDivisionError

        stage.cluster.forget_jobs()
        stage.cluster.submit = fail  # type: ignore[assignment, method-assign]
        Reconciler(stage.ctx).run_once()

        assert f"run_id={run_id}" in capsys.readouterr().out
