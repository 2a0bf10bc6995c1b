"""How the name of data becomes a source: a registered set, else the first format that recognises what lies there."""

from __future__ import annotations

import dataclasses

from robust_eval.data._asked import Asked
from robust_eval.data._formats import FORMATS, WANTED
from robust_eval.data._source import Source
from robust_eval.errors import ConfigError, DataError, near
from robust_eval.paths import is_folder, misnamed, shown
from robust_eval.registry import build, find, names

__all__ = ["opened", "takes_size"]


def opened(asked: Asked) -> Source:
    """Return the source of this name; raises ``ConfigError`` or ``DataError`` where there is none."""
    name, size = asked.name, asked.size
    registered = name in names("data")
    _require_croppable(asked, registered)
    if asked.class_order is not None and (registered or not is_folder(name)):
        raise ConfigError(f"data {shown(name)!r}: class_order is for image folders only; leave it out")
    if registered:
        sized = "size" in {field.name for field in dataclasses.fields(find("data", name))}
        _require_sized(asked, sized)
        source: Source = build("data", name, {} if size is None else {"size": size})
        return source
    if (problem := misnamed(name)) is not None:
        raise DataError(f"data: {problem}")
    for format_ in FORMATS:
        if (found := format_.recognised(asked)) is not None:
            _require_sized(asked, format_.sized)
            return found
    _require_sized(asked, False)
    if asked.lies not in ("a file", "none"):
        raise DataError(f"data {shown(name)}: expected {WANTED}, got {asked.lies}")
    if asked.lies == "a file":
        raise DataError(f"data {shown(name)}: expected {WANTED}, got {asked.path.suffix or 'a file'}")
    if len(asked.path.parts) > 1:
        raise DataError(f"data: no file or folder {shown(name)}; give the path of {WANTED}")
    raise ConfigError(
        f"unknown data {shown(name)!r}{near(name, names('data'))}; "
        f"known: {', '.join(names('data'))}, or the path of {WANTED}"
    )


def takes_size(name: str) -> bool:
    """Whether the images of a path are files that are decoded, and may be brought to a size."""
    if name in names("data") or misnamed(name) is not None:
        return False
    asked = Asked(name)
    try:
        return next((each.sized for each in FORMATS if each.recognised(asked) is not None), False)
    except DataError:  # which is told when it is opened
        return False


def _require_sized(asked: Asked, sized: bool) -> None:
    if sized:
        return
    for word in ("size", "resize", "interpolation"):
        if getattr(asked, word) is not None:
            raise ConfigError(
                f"data {shown(asked.name)!r}: {word} is for image folders and files of encoded images; leave it out"
            )


def _require_croppable(asked: Asked, registered: bool) -> None:
    if asked.resize is None and asked.interpolation is None:
        return
    if registered:
        raise ConfigError(
            f"data {shown(asked.name)!r}: resize and interpolation are for image folders and files of encoded images; "
            "leave them out"
        )
    if asked.size is None or (isinstance(asked.resize, int) and asked.resize < asked.size):
        raise ConfigError(
            f"data {shown(asked.name)!r}: expected a size of at most resize ({asked.resize}), which is cropped, got "
            f"{asked.size}"
        )
