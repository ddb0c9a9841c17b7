"""What the placeholders of the documents stand for, and the states that commands suppose."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from service.domain.ids import is_autopilot_id
from tests.support.autopilot.simulated import HttpAutopilot
from tests.support.documents.service import LocalService
from tests.support.factories import CLASSES, make_detector_spec, write_checkpoint

PRESET = "digits/bckd"
_SPACE = {"distillation.cls_weight": {"kind": "loguniform", "low": 0.25, "high": 4.0}}
_RUN_ACTIONS = re.compile(r"\b(pause|resume|cancel|retry|prioritize) r3k9")
_SWEEP_ACTIONS = re.compile(r"\bstop s8k2")
_WAITING_COMMANDS = frozenset({"report"})
_NEED_RESULTS = frozenset({"extend", "report"})
"""Not of an autopilot, which would never end without its loop."""

_NEED_OBEDIENCE = frozenset({"resume", "cancel", "retry"})
_LAUNCHED = re.compile(r"Launched ([rs][0-9a-z]{12})")
_TOKEN = re.compile(r"tdm_[0-9a-f]{10}_[A-Za-z0-9_-]{43}")


class DocumentState:
    """The runs, searches and tokens of a document: made by its commands, or for them."""

    def __init__(self, service: LocalService) -> None:
        self._service = service
        self._finished: dict[str, str] = {}
        self._unfinished: dict[str, str] = {}
        self._token = ""

    def placeholders(self, line: str) -> Mapping[str, Callable[[], str]]:
        """Values by placeholder: an unfinished run for actions on it, a finished one otherwise."""
        get_run = self._unfinished_run if _RUN_ACTIONS.search(line) else self._finished_run
        get_sweep = self._unfinished_sweep if _SWEEP_ACTIONS.search(line) else self._finished_sweep
        return {
            "r3k9...": get_run,
            "s8k2...": get_sweep,
            "a5m1...": self._planned_autopilot,
            "tdm_...": lambda: self._token,
            "3f9a...": self._token_id,
            "ID": self._token_id,
            "PRESET": lambda: PRESET,
        }

    def prepare(self, arguments: list[str]) -> None:
        """Bring the service into a state in which a command makes sense."""
        name = arguments[0]
        if name == "restore":
            self._delete_database()
            return
        service = self._service
        assert service.stage.home.exists()
        if name in _NEED_RESULTS and not any(map(is_autopilot_id, arguments[1:2])):
            service.workers.finish_all()
        if name in _NEED_OBEDIENCE:
            service.workers.start_runs()
        if arguments[:2] == ["teachers", "add"]:
            _write_teacher(Path(arguments[2]))
        service.finish_runs(is_on=name in _WAITING_COMMANDS or "--watch" in arguments)

    def remember(self, arguments: list[str], output: str) -> None:
        """Note the run, the sweep or the token that a command made."""
        for item in _LAUNCHED.findall(output) if arguments[0] in ("run", "sweep") else []:
            items = self._finished if "--watch" in arguments else self._unfinished
            items[item[0]] = item
        for token in _TOKEN.findall(output):
            self._token = token

    def _finished_run(self) -> str:
        if "r" not in self._finished:
            self._finished["r"] = self._launch("runs", {"preset": PRESET})
            self._service.workers.finish_all()
        return self._finished["r"]

    def _unfinished_run(self) -> str:
        if "r" not in self._unfinished:
            self._unfinished["r"] = self._launch("runs", {"preset": PRESET})
            self._service.workers.start_runs()
        return self._unfinished["r"]

    def _finished_sweep(self) -> str:
        if "s" not in self._finished:
            self._finished["s"] = self._launch("sweeps", {"preset": PRESET, "space": _SPACE})
            self._service.workers.finish_all()
        return self._finished["s"]

    def _unfinished_sweep(self) -> str:
        if "s" not in self._unfinished:
            body = {"preset": PRESET, "space": _SPACE, "probe": False}
            self._unfinished["s"] = self._launch("sweeps", body)
            self._service.workers.start_runs()
        return self._unfinished["s"]

    def _planned_autopilot(self) -> str:
        if "a" not in self._unfinished:
            body = {"preset": PRESET, "budget": {"hours": 6.0}, "paused": True}
            service = self._service
            autopilot_id = self._launch("autopilots", body)
            HttpAutopilot(service.stage, autopilot_id, service.workers).finish_probes()
            self._unfinished["a"] = autopilot_id
        return self._unfinished["a"]

    def _launch(self, collection: str, body: dict[str, object]) -> str:
        response = self._service.stage.http.post(f"/v1/{collection}", json=body)
        assert response.status_code == 201, response.text
        return str(response.json()["id"])

    def _token_id(self) -> str:
        return self._token.split("_")[1]

    def _delete_database(self) -> None:
        self._service.stop()
        for file in self._service.home.glob("tandem.db*"):
            file.unlink()


def _write_teacher(checkpoint: Path) -> None:
    """Write what `tandem-worker teachers import` leaves: weights, and a card beside them."""
    write_checkpoint(checkpoint)
    card = {
        "name": checkpoint.stem,
        "detector": make_detector_spec().model_dump(mode="json"),
        "classes": list(CLASSES),
    }
    checkpoint.with_suffix(".json").write_text(json.dumps(card), encoding="utf-8")
