"""The Python client of Tandem.

from tandem import RunRequest, TandemClient

with TandemClient("http://127.0.0.1:8700") as client:
    run = client.launch(RunRequest(preset="digits/bckd"))
    print(client.compare(run.id, timeout_s=3600).conclusion)
"""

from tandem.imports import explain_import_error

try:
    from configs.spec.autopilot import AutopilotBudget
    from service.api.schemas.autopilots import (
        AutopilotLaunchRequest,
        AutopilotView,
        DecisionView,
    )
    from service.api.schemas.run_details import ComparisonView, LogQuery
    from service.api.schemas.run_lists import RunQuery
    from service.api.schemas.runs import (
        EvaluationRequest,
        ExportRequest,
        PlanView,
        RepeatView,
        RunRequest,
        RunView,
    )
    from service.api.schemas.sweeps import (
        ExtendRequest,
        PromoteRequest,
        SweepRequest,
        SweepView,
        TrialView,
    )
    from service.client import NoComparison, TandemClient
    from service.client_transport import ServiceUnreachable, TandemApiError
    from service.domain.autopilot.autopilots import AutopilotPhase
    from service.domain.states import RunState
    from service.domain.sweeps import SweepState
except ImportError as error:
    raise explain_import_error(error) from error

__all__ = [
    "AutopilotBudget",
    "AutopilotLaunchRequest",
    "AutopilotPhase",
    "AutopilotView",
    "ComparisonView",
    "DecisionView",
    "EvaluationRequest",
    "ExportRequest",
    "ExtendRequest",
    "LogQuery",
    "NoComparison",
    "PlanView",
    "PromoteRequest",
    "RepeatView",
    "RunQuery",
    "RunRequest",
    "RunState",
    "RunView",
    "ServiceUnreachable",
    "SweepRequest",
    "SweepState",
    "SweepView",
    "TandemApiError",
    "TandemClient",
    "TrialView",
]
