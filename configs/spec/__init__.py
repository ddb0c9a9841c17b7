"""What a person asks for: specs of runs, jobs and sweeps.

Import the parts of a spec from the submodules; these are the whole documents.
"""

from configs.spec.run import RunSpec
from configs.spec.sweep import SweepSpec

__all__ = ["RunSpec", "SweepSpec"]
