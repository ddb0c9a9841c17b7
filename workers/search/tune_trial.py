"""Trials as Ray Tune knows them. Their processes are followers, which know nothing of Ray Tune.

What Tune would send along imports Tune and pandas where it arrives: 70 MB for each trial.
"""

from typing import Any

from ray.train._internal.storage import StorageContext
from ray.tune import Trainable
from ray.tune.experiment import Trial
from ray.tune.experiment.trial import _TrialInfo
from ray.util import register_serializer

from workers.search.follower import TrialMonitor, to_none


class MonitoredTrial(Trial):
    """A trial whose process is a `TrialMonitor`."""

    def get_trainable_cls(self) -> Any:
        """The class of the process; called by Tune."""
        return TrialMonitor


class MonitoredTrainable(Trainable):
    """The name under which Tune knows such trials; none is ever made."""


def register_null_serializers() -> None:
    """From now on Tune's own belongings stay in this process; Ray has to be connected."""
    for kind in (StorageContext, _TrialInfo):
        register_serializer(kind, serializer=to_none, deserializer=to_none)
