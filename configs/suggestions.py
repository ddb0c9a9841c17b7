"""Suggestions for misspelled names."""

from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher

_CUTOFF = 0.68
"""Least similarity (0 to 1, `difflib`) of a suggested name: one transposed letter in four."""

_MARGIN = 0.03
"""Names this much less similar than the best one are suggested too."""

_WITHOUT_FOLDER = 0.97
"""Factor of the similarity of a path whose folder is missing in the name."""

_MAX_SUGGESTIONS = 3
_MAX_LISTED = 16


def find_similar(name: str, names: Iterable[str]) -> tuple[str, ...]:
    """The names most similar to `name`, at most three; empty if none is similar."""
    return pick_most_similar({item: measure_similarity(name, item) for item in names})


def pick_most_similar(similarities: dict[str, float]) -> tuple[str, ...]:
    """The names with the highest similarities (0 to 1), at most three, in descending order."""
    best = max(similarities.values(), default=0.0)
    if best < _CUTOFF:
        return ()
    close = [name for name, value in similarities.items() if value >= best - _MARGIN]
    return tuple(sorted(close, key=lambda name: -similarities[name]))[:_MAX_SUGGESTIONS]


def measure_similarity(first: str, second: str) -> float:
    """Similarity of two names from 0 to 1, ignoring case; 0 below the least that is suggested.

    Upper bounds are computed first: the similarity itself takes time that grows with the square of
    the length, and requests choose the names.
    """
    matcher = SequenceMatcher(None, first.lower(), second.lower(), autojunk=False)
    if matcher.real_quick_ratio() < _CUTOFF or matcher.quick_ratio() < _CUTOFF:
        return 0.0
    return matcher.ratio()


def ask_did_you_mean(name: str, names: Iterable[str]) -> str:
    """The question `did you mean a or b?`; empty if no name is similar."""
    similar = find_similar(name, names)
    return f"did you mean {join_with_or(similar)}?" if similar else ""


def ask_did_you_mean_path(name: str, paths: Iterable[str]) -> str:
    """As `ask_did_you_mean`, for names with folders: `bckd` is similar to `digits/bckd`."""
    similar = pick_most_similar(
        {
            path: max(
                measure_similarity(name, path),
                _WITHOUT_FOLDER * measure_similarity(name, path.rpartition("/")[2]),
            )
            for path in paths
        }
    )
    return f"did you mean {join_with_or(similar)}?" if similar else ""


def join_with_or(names: Sequence[str]) -> str:
    """The names as `a, b or c`."""
    return _join(names, "or")


def list_names(names: Sequence[str], *, conjunction: str = "and") -> str:
    """The names as `a, b and c`; of many, the first ones and how many more there are."""
    if len(names) <= _MAX_LISTED:
        return _join(names, conjunction)
    return f"{', '.join(names[:_MAX_LISTED])} and {len(names) - _MAX_LISTED} more"


def _join(names: Sequence[str], conjunction: str) -> str:
    *first, last = names
    return f"{', '.join(first)} {conjunction} {last}" if first else last
