"""Sets whose labels are not looked at, and which may have none: images to be told from a model's own."""

from __future__ import annotations

from robust_eval.data._class_folders import ENDINGS, File, shuffled, sub_folders
from robust_eval.data._examples import Examples
from robust_eval.data._files import Reader
from robust_eval.data._source import Source

__all__ = ["without_labels"]


def without_labels(source: Source) -> Examples | None:
    """Return the images of a ``.npz`` file or a flat folder that has no labels, all labelled 0.

    ``None`` for every other source. Raises ``DataError`` for what cannot be read.
    """
    from robust_eval.data.arrays import Arrays
    from robust_eval.data.folder import Folder

    if isinstance(source, Arrays):
        return source.unlabelled()
    if not isinstance(source, Folder) or sub_folders(source.path):
        return None
    files = [File(path, 0) for path in sorted(source.path.iterdir()) if path.suffix.lower() in ENDINGS]
    reader = Reader(where=f"data {source.path}", root=source.path, classes=1, size=source.size)
    return reader.examples(shuffled(files)) if files else None
