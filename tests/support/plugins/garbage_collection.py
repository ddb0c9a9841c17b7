"""Keeps garbage collections from examining what lives as long as the process.

With the modules and all collected tests, they take a seventh of the CPU time of a run.
"""

import gc


def pytest_collection_finish() -> None:
    """Exclude everything that exists before the first test from later collections."""
    gc.collect()
    gc.freeze()
