"""Finds the files that annotations name, also where the names are written differently.

Names come from other machines and tools: with backslashes, absolute paths, another case, another
Unicode form, blanks at the end, another ending. A file is taken only if it is the one candidate and
no other name means it; whatever differs is noted.
"""

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

IMAGE_ENDINGS = (
    *(".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".jpe", ".jfif", ".dib"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif", ".gif", ".exr", ".hdr", ".pic", ".sr"),
    *(".ras", ".heic", ".mpo", ".dng", ".pfm", ".tga"),
)
"""Endings of images in lower case, with the preferred first; what can be read is checked later."""

_DRIVE = re.compile(r"^(file://|[A-Za-z]:)?[\\/]")
_INVISIBLE = re.compile(r"[\u00ad\u200b-\u200f\u202a-\u202e\u2060\ufeff]")


@dataclass(frozen=True)
class NameMatches:
    """Which file each name means."""

    files: Mapping[str, str]
    """By name, the path in the folder; a name of no file is left out."""

    failures: Mapping[str, str]
    """By name, why none of several similar files was taken."""

    notes: tuple[str, ...]


class FileIndex:
    """The files below a folder. The folder is only listed when a name is not found as it is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def match(self, names: Iterable[str]) -> NameMatches:
        """Find the file of each name; files that are named exactly belong to nobody else."""
        names = list(dict.fromkeys(names))
        files = {name: name for name in names if self.has(name)}
        claimed = {_normalize(name) for name in files}
        similar: dict[str, str] = {}
        failures: dict[str, str] = {}
        for name in names:
            if name in files or not _is_safe(name):
                continue
            candidates = [path for path in self._find_similar(name) if path not in claimed]
            if len(candidates) == 1:
                similar[name] = candidates[0]
            elif candidates or (candidates := self._find_alike(name)):
                failures[name] = _describe_difference(name, candidates)
        uses = Counter(similar.values())
        for name, path in similar.items():
            if uses[path] == 1:
                files[name] = path
            else:
                conflicting = [other for other, same in similar.items() if same == path]
                failures[name] = _describe_conflict(path, conflicting)
        return NameMatches(files, failures, _describe_matches(files))

    def has(self, name: str) -> bool:
        """Whether there is a file of exactly this name in the folder."""
        if not _is_safe(name) or PurePosixPath(name).is_absolute():
            return False
        try:
            return (self.folder / name).is_file()
        except (OSError, ValueError):  # too long, or not a name on this system
            return False

    def find(self, name: str) -> str | None:
        """The one file that is named so, perhaps in another case or Unicode form."""
        if self.has(name):
            return name
        paths = self._find_from_root(_plain(name)) if _is_safe(name) else []
        return paths[0] if len(paths) == 1 else None

    def find_stem(self, stem: str) -> list[str]:
        """Paths of images that are `stem` with any ending; preferred endings first."""
        paths = self._by_stem.get(stem) or self._by_folded_stem.get(_fold(stem), [])
        return sorted(paths, key=_rank_ending)

    @cached_property
    def paths(self) -> tuple[str, ...]:
        """All files, as sorted paths in the folder."""
        return tuple(sorted(_walk(self.folder)))

    @cached_property
    def images(self) -> tuple[str, ...]:
        """All files with the ending of an image, as sorted paths in the folder."""
        return tuple(path for path in self.paths if is_image_name(path))

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        return _group(self.images, strip_ending)

    @cached_property
    def _by_folded_stem(self) -> dict[str, list[str]]:
        return _group(self.images, lambda path: _fold(strip_ending(path)))

    @cached_property
    def _by_plain(self) -> dict[str, list[str]]:
        return _group(self.paths, _plain)

    @cached_property
    def _by_folded(self) -> dict[str, list[str]]:
        return _group(self.paths, _fold)

    @cached_property
    def _by_last_part(self) -> dict[str, list[str]]:
        return _group(self.paths, lambda path: _fold(PurePosixPath(path).name))

    @cached_property
    def _by_confusable(self) -> dict[str, list[str]]:
        return _group(self.paths, _confusable)

    def _find_similar(self, name: str) -> list[str]:
        """Candidates of the first rule that gives any: the fewest differences come first."""
        parts = PurePosixPath(_plain(name)).parts
        for start in range(len(parts)):
            shorter = "/".join(part for part in parts[start:] if part != "/")
            if paths := self._find_from_root(shorter):
                return paths
        return self._find_deeper(_fold(name))

    def _find_from_root(self, name: str) -> list[str]:
        if not name:
            return []
        return (
            self._by_plain.get(name)
            or self._by_folded.get(_fold(name))
            or self._by_folded_stem.get(_fold(name))
            or self._by_folded_stem.get(_fold(strip_ending(name)), [])
        )

    def _find_deeper(self, folded: str) -> list[str]:
        """Files in subfolders whose path ends with the complete name."""
        paths = self._by_last_part.get(PurePosixPath(folded).name, [])
        return [path for path in paths if _fold(path).endswith(f"/{folded}")]

    def _find_alike(self, name: str) -> list[str]:
        """Files that look like the name, but are not taken: it may be another file."""
        return self._by_confusable.get(_confusable(name), [])


def is_image_name(path: str) -> bool:
    """Whether a file has the ending of an image, and is not hidden."""
    name = PurePosixPath(path).name
    return PurePosixPath(name).suffix.lower() in IMAGE_ENDINGS and not name.startswith("._")


def strip_ending(path: str) -> str:
    """The path without the ending of an image; other endings stay, as in `frame.0001`."""
    return path[: -len(PurePosixPath(path).suffix)] if is_image_name(path) else path


def find_child(folder: Path, *names: str) -> Path | None:
    """The entry of a folder with one of the names, in any case; earlier names come first."""
    try:
        entries = {entry.name.casefold(): entry for entry in sorted(folder.iterdir(), reverse=True)}
    except OSError:
        return None
    return next((entries[name] for name in names if name in entries), None)


def _walk(folder: Path) -> Iterator[str]:
    """Paths of files in the folder; a folder that links to one above it is entered once."""
    seen: set[str] = set()
    for current, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(current)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        prefix = Path(current).relative_to(folder).as_posix()
        yield from (file if prefix == "." else f"{prefix}/{file}" for file in files)


def _group(paths: Sequence[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for path in paths:
        groups[key(path)].append(path)
    return dict(groups)


def _is_safe(name: str) -> bool:
    return "\0" not in name and ".." not in re.split(r"[\\/]", name)


def _normalize(name: str) -> str:
    return PurePosixPath(name).as_posix()


def _plain(name: str) -> str:
    """Slashes, without drive letter and blanks at the ends of parts, in the composed form."""
    name = _DRIVE.sub("/", unicodedata.normalize("NFC", name)).replace("\\", "/")
    return PurePosixPath("/".join(part.strip() for part in name.split("/"))).as_posix()


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", _plain(name).casefold())


def _confusable(name: str) -> str:
    """Equal for names that look alike: compatible letters, invisible ones, kinds of blanks."""
    text = _INVISIBLE.sub("", unicodedata.normalize("NFKC", name).casefold())
    return "".join(_plain(text).split())


def _rank_ending(path: str) -> tuple[int, str]:
    return IMAGE_ENDINGS.index(PurePosixPath(path).suffix.lower()), path


def _describe_difference(name: str, candidates: Sequence[str]) -> str:
    verb = "is" if len(candidates) == 1 else "are"
    similar = ", ".join(ascii(path) for path in candidates[:3])
    return f"there is no file {name!a}; similar {verb} {similar}"


def _describe_conflict(path: str, names: Sequence[str]) -> str:
    return f"{path!a} is similar to {', '.join(ascii(name) for name in names[:3])}"


def _describe_matches(files: Mapping[str, str]) -> tuple[str, ...]:
    similar = [(name, path) for name, path in files.items() if name != path]
    if not similar:
        return ()
    name, path = similar[0]
    return (
        f"{len(similar)} names of images are written differently than the files are named: "
        f"{name!a} is taken for {path!a}.",
    )
