"""Ray Tune trials whose processes are monitors without Ray Tune.

Objects that Tune sends to its actors would import Tune and pandas there: 70 MB for each trial.
"""

from typing import Any

from ray.train._internal.storage import StorageContext
from ray.tune import Trainable
from ray.tune.experiment import Trial
from ray.tune.experiment.trial import _TrialInfo
from ray.util import register_serializer

from workers.search.trial_monitor import TrialMonitor, to_none


class MonitoredTrial(Trial):
    """A Tune trial whose actor is a `TrialMonitor`."""

    def get_trainable_cls(self) -> Any:
        """The class of the trial's actor; called by Tune."""
        return TrialMonitor


class MonitoredTrainable(Trainable):
    """Registers the trials' name with Tune; never instantiated."""


def register_null_serializers() -> None:
    """Keep Tune's own objects from being sent to actors; Ray has to be connected."""
    for kind in (StorageContext, _TrialInfo):
        register_serializer(kind, serializer=to_none, deserializer=to_none)
