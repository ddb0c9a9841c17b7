"""Explains why the packages behind the client cannot be imported."""

from importlib.util import find_spec
from pathlib import Path

_PACKAGES = ("configs", "service")
_FOLDER = Path(__file__).parents[1]
"""Where all packages of Tandem are installed, side by side."""


def explain_import_error(error: ImportError) -> ImportError:
    """The error, or a clearer one if another module has the name of one of our packages."""
    for name in _PACKAGES:
        spec = find_spec(name)
        origin = (
            None
            if spec is None
            else spec.origin or next(iter(spec.submodule_search_locations or ()), None)
        )
        if origin is not None and _FOLDER not in Path(origin).resolve().parents:
            return ImportError(
                f"Tandem's package {name!r} is hidden by {origin}. Rename that module, or start "
                "Python in another folder."
            )
    return error
