"""The command `tandem-worker methods`."""

import sys
from importlib.metadata import EntryPoint, entry_points

from workers.distillation.methods.catalog import build_catalog, find_wrong_terms, package_of
from workers.distillation.methods.registry import GROUP, get_method
from workers.errors import MethodMismatch


def print_catalog() -> int:
    """Print the `MethodCatalog` of this environment in one line of JSON."""
    print(build_catalog().model_dump_json())
    return 0


def print_methods() -> int:
    """Print a line for each method; returns 1 if one cannot be used or computes other numbers."""
    points = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    return max([_print_method(point) for point in points], default=0)


def _print_method(point: EntryPoint) -> int:
    try:
        method = get_method(point.name)
        problems = list(find_wrong_terms(method))
    except MethodMismatch as problem:
        print(f"{point.name:14} {problem}", file=sys.stderr)
        return 1
    version, num_cases = method.spec_type.traits.version, len(method.golden_cases())
    verdict = "; ".join(problems) or f"golden cases: {num_cases or 'none'}"
    print(f"{point.name:14} version {version:6} {package_of(point):20} {verdict}")
    return 1 if problems else 0
