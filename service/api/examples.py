"""Examples of request bodies, by operation id; the documentation fills the first one in.

Those that launch something need no more than `tandem up` or `make demo` provides.
"""

from typing import Any, Final

_SMOKE_TEST = {
    "summary": "A tiny student, in seconds (after `tandem up`)",
    "value": {"preset": "quick/instant"},
}
_DISTILLATION = {
    "summary": "Distillation with its baseline (after `make demo`)",
    "value": {"preset": "digits/bckd", "changes": {"distillation.loc_weight": 2.0, "seed": 1}},
}
_SWEEP = {
    "summary": "Eight trials of BCKD's two weights (after `make demo`)",
    "value": {
        "preset": "digits/bckd",
        "space": {
            "distillation.cls_weight": {"kind": "loguniform", "low": 0.5, "high": 8.0},
            "distillation.loc_weight": {"kind": "loguniform", "low": 0.5, "high": 8.0},
        },
        "budget": {"trials": 8},
    },
}
_AUTOPILOT = {
    "summary": "The best student for the digits in an hour (after `make demo`)",
    "value": {"preset": "digits/bckd", "budget": {"hours": 1.0}, "paused": True},
}
_DETECTOR = {"backbone": {"kind": "resnet", "depth": 50}, "head": {"kind": "gfl"}}

REQUEST_EXAMPLES: Final[dict[str, dict[str, dict[str, Any]]]] = {
    "launch_run": {"smoke_test": _SMOKE_TEST, "distillation": _DISTILLATION},
    "plan_run": {"smoke_test": _SMOKE_TEST, "distillation": _DISTILLATION},
    "prioritize_run": {"first": {"summary": "Before the others", "value": {"priority": 10}}},
    "repeat_run": {"three_seeds": {"summary": "Three seeds in all", "value": {"seeds": 3}}},
    "launch_evaluation": {
        "teacher": {
            "summary": "The digits teacher on its images (after `make demo`)",
            "value": {
                "model": {"name": "digits-teacher"},
                "data": {"dataset": {"name": "digits"}, "image_size": [96, 96]},
            },
        },
    },
    "launch_export": {
        "teacher": {
            "summary": "The digits teacher as ONNX (after `make demo`)",
            "value": {
                "model": {"name": "digits-teacher"},
                "formats": ["onnx"],
                "dataset": {"name": "digits"},
                "image_size": [96, 96],
            },
        },
    },
    "launch_sweep": {"weights": _SWEEP},
    "plan_sweep": {"weights": _SWEEP},
    "extend_sweep": {"more_trials": {"summary": "Eight more trials", "value": {"trials": 8}}},
    "launch_autopilot": {"an_hour": _AUTOPILOT},
    "extend_autopilot": {
        "an_hour": {"summary": "One more hour", "value": {"budget": {"hours": 1.0}}}
    },
    "promote_trial": {
        "longer": {
            "summary": "The best trial, trained for longer",
            "value": {"changes": {"schedule.epochs": 24}},
        },
    },
    "register_dataset": {
        "folder": {
            "summary": "A folder with a dataset.json, as the importers write it",
            "value": {"root": "~/.tandem/datasets/cells", "name": "cells"},
        },
    },
    "register_teacher": {
        "checkpoint": {
            "summary": "A checkpoint and its architecture",
            "value": {
                "name": "mine",
                "checkpoint": "~/.tandem/teachers/mine.pth",
                "detector": _DETECTOR,
                "classes": ["RBC", "WBC", "Platelets"],
            },
        },
    },
    "set_project": {
        "limits": {
            "summary": "A double share, four runs at once",
            "value": {"weight": 2.0, "max_runs": 4},
        },
    },
    "create_token": {
        "runner": {
            "summary": "For a person who launches runs",
            "value": {"name": "ada", "role": "runner", "project": "detectors"},
        },
    },
}
