"""The commands of `tandem`."""

SECTIONS = {
    "Start and stop": {
        "up": "stack",
        "down": "stack",
        "status": "stack",
        "doctor": "maintenance.doctor",
        "serve": "stack",
    },
    "Launch and follow runs": {
        "presets": "presets",
        "run": "runs",
        "runs": "runs",
        "show": "runs",
        "logs": "runs",
        "pause": "run_actions",
        "resume": "run_actions",
        "cancel": "run_actions",
        "retry": "run_actions",
        "prioritize": "run_actions",
    },
    "Compare with the baseline": {
        "repeat": "repeat",
        "report": "reports",
        "loss-shares": "loss_shares",
    },
    "Search": {
        "autopilot": "autopilots.launch",
        "autopilots": "autopilots.lists",
        "decisions": "autopilots.lists",
        "sweep": "sweeps",
        "sweeps": "sweeps",
        "trials": "sweeps",
        "stop": "sweeps",
        "extend": "sweeps",
        "promote": "sweeps",
    },
    "Datasets, teachers, methods": {
        "data": "datasets",
        "teachers": "teachers",
        "methods": "methods",
    },
    "Use a trained detector": {"evaluate": "jobs", "export": "jobs", "predict": "jobs"},
    "Share the cluster": {"tokens": "access", "projects": "access", "audit": "access"},
    "Keep the database": {
        "backup": "maintenance.backup",
        "restore": "maintenance.backup",
        "fsck": "maintenance.fsck",
        "prune": "maintenance.fsck",
    },
    "Complete experiments": {
        "distill": "demo.own_data",
        "demo": "demo.commands",
        "sweep-demo": "demo.commands",
        "demo-search": "demo.commands",
        "bccd": "demo.commands",
        "reproduce": "reproduction.commands",
    },
}
"""By section of the help page, in its order: each command with the module of `service.cli` that has
it, as a function or group of the same name."""

MODULES = {name: module for section in SECTIONS.values() for name, module in section.items()}
