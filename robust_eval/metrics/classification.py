"""How good the answers of a classifier are beyond the share that is right: likelihood, calibration, and each class.

*Likelihood*, from the probability p_y of the label: ``NLL = mean -log p_y``; the Brier score ``mean Σ_k (p_k - [k =
y])²`` over all classes, 0 to 2 (Brier 1950); top-k accuracy, the share whose label is among the k most probable
classes, where equal probabilities are ordered by class.

*Calibration*: expected calibration error (Guo et al. 2017, arXiv 1706.04599, equation 3), ``Σ_b n_b / n |accuracy_b -
confidence_b|`` over 15 bins of equal width on (0, 1], or of equal mass (Nguyen and O'Connor 2015, arXiv 1508.05154).
Neither tells too much confidence from too little, which mixing methods cause, so the gap of the means stands beside
them with its sign: above 0 is too much. A calibration error has no interval: it is biased upwards by chance, and so is
its bootstrap.

*Each class against the rest*, from true and false positives and negatives: precision ``TP / (TP + FP)``; recall, also
called sensitivity or true positive rate, ``TP / (TP + FN)``; specificity or true negative rate ``TN / (TN + FP)``;
false positive rate ``1 - specificity``; false discovery rate ``FP / (TP + FP)``; F1; Matthews' correlation coefficient
(MCC); and the area under the ROC curve (AUC), for which the probabilities of all classes are needed. A fraction whose
denominator is zero is 0, and the table names it as undefined. *Macro* is the mean over the classes that are a label or
a prediction of some image (as scikit-learn's), *micro* counts the decisions of all classes together; the macro AUC
leaves out the classes for which it is undefined.

An output that is not finite is no answer: its label has probability 0 and the last rank, and its prediction, -1, is a
miss of its own class and a false positive of none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor

from robust_eval.errors import DataError
from robust_eval.findings import Measurement
from robust_eval.metrics.accuracy import accuracy
from robust_eval.metrics.intervals import Z
from robust_eval.metrics.per_example import PER_EXAMPLE

__all__ = [
    "BINS",
    "CALIBRATION",
    "CLASSES_KEPT",
    "COUNTS",
    "PER_CLASS",
    "by_class",
    "calibration",
    "calibration_error",
    "calibration_shown",
    "classification",
    "confusion",
    "likelihood",
    "probability_columns",
]

BINS = 15
CLASSES_KEPT = 20
"""Most classes for which records keep the probability of each: of 1,000 they would be most of what a record holds."""
PER_CLASS = ("precision", "recall", "specificity", "false_positive_rate", "false_discovery_rate", "f1", "mcc")
COUNTS = ("tp", "fp", "fn", "tn")


def probability_columns(probabilities: Float[Tensor, "n k"]) -> dict[str, Tensor]:
    """Return the probability of each class as a column ``p0`` ``p1`` ..., which :func:`by_class` takes AUC from."""
    return {f"p{k}": column for k, column in enumerate(probabilities.unbind(1))}


def likelihood(rows: pd.DataFrame, *, top: Sequence[int] | None = None) -> tuple[Measurement, ...]:
    """Return NLL, Brier score, top-k accuracy for each k and calibration; only what the rows have columns for.

    ``top`` is 5 if nothing is said, and none where the rows say that there are at most five classes. NLL and Brier
    score with the normal interval of a mean, accuracies with Wilson's.
    """
    if not len(rows):
        return ()
    if top is None:
        top = () if "p0" in rows and "p5" not in rows else (5,)
    found = [_mean(rows[name], name) for name, metric in PER_EXAMPLE.items() if metric.mean and name in rows]
    if "rank" in rows:
        found += [
            accuracy((rows["rank"] < k).astype(float), metric=f"top{k}_accuracy")
            for k in map(_whole_number, top)
        ]
    return (*found, *calibration(rows))


def calibration(rows: pd.DataFrame, *, bins: int = BINS) -> tuple[Measurement, ...]:
    """Return calibration error by equal width and by equal mass, and the signed gap mean confidence - accuracy.

    Nothing for rows without confidences.
    """
    if not {"confidence", "prediction", "label"} <= set(rows.columns) or not len(rows):
        return ()
    confidence = rows["confidence"].fillna(0.0).to_numpy(dtype=float)
    right = (rows["prediction"] == rows["label"]).to_numpy(dtype=float)
    values = {
        "calibration_error": calibration_error(confidence, right, bins=bins),
        "calibration_error_equal_mass": calibration_error(confidence, right, bins=bins, equal_mass=True),
        "confidence_gap": float((confidence - right).mean()),
    }
    return tuple(Measurement(name, value, None, None, len(rows)) for name, value in values.items())


def calibration_error(
    confidence: NDArray[Any],
    right: NDArray[Any],
    *,
    bins: int = BINS,
    equal_mass: bool = False,
) -> float:
    """Return the expected calibration error of confidences in [0, 1] [n], where ``right`` [n] is 1 or 0.

    Bins are of equal width on (0, 1], or hold equally many examples, up to one. scikit-learn's ``calibration_curve``
    does not say how many are in a bin.
    """
    if not len(confidence) == len(right) > 0:
        raise DataError(
            f"calibration error: expected a confidence and an outcome for each example, got {len(confidence)} and "
            f"{len(right)}"
        )
    excess = np.asarray(right, dtype=float) - confidence
    if equal_mass:
        # equal confidences share their excess: which of them falls into which bin is then the same for any order
        _, group = np.unique(confidence, return_inverse=True)
        excess = (np.bincount(group, weights=excess) / np.bincount(group))[np.sort(group)]
        place = np.arange(len(excess)) * bins // len(excess)
    else:
        place = np.clip(np.ceil(np.asarray(confidence) * bins).astype(int) - 1, 0, bins - 1)
    return float(np.abs(np.bincount(place, weights=excess, minlength=bins)).sum() / len(excess))


def confusion(rows: pd.DataFrame, classes: int) -> pd.DataFrame:
    """Return how many images of each label (row) got each prediction (column), both 0..classes-1.

    A last column -1 is there if some output was not finite.
    """
    from sklearn.metrics import confusion_matrix  # slow to import

    counts = confusion_matrix(*_answers(rows, classes), labels=[*range(classes), -1])[:classes]
    table = pd.DataFrame(counts, columns=[*range(classes), -1])
    table.index.name, table.columns.name = "label", "prediction"
    return table if counts[:, -1].any() else table.drop(columns=-1)


def by_class(rows: pd.DataFrame, classes: int) -> pd.DataFrame:
    """Return a line for each class against the rest, then ``macro`` and ``micro``.

    Columns: ``images`` of the class, ``tp fp fn tn``, the measures of this module, ``auc`` if the rows have the
    probability of each class (:func:`probability_columns`), and ``undefined``, the measures whose denominator is zero.
    """
    label, prediction = _answers(rows, classes)
    # scikit-learn's multilabel_confusion_matrix says the same and takes most of a report's time
    tp = np.bincount(label[label == prediction], minlength=classes)
    fn = np.bincount(label, minlength=classes) - tp
    fp = np.bincount(prediction[prediction >= 0], minlength=classes) - tp
    tn = len(label) - tp - fn - fp
    counts = {"tp": tp, "fp": fp, "fn": fn, "tn": tn}
    images, seen = tp + fn, tp + fp + fn > 0

    decisions = np.stack([*counts.values()], 1)
    lines = [_measures(*line) for line in decisions]
    micro = _measures(*decisions.sum(0))
    macro = {name: float(np.mean([line[name][0] for line in lines], where=seen)) for name in PER_CLASS}
    columns: dict[str, Any] = {"images": pd.array([*images, len(rows), len(rows)], dtype="Int64")}
    for name, column in counts.items():
        columns[name] = pd.array([*column, pd.NA, column.sum()], dtype="Int64")
    for name in PER_CLASS:
        columns[name] = [*(line[name][0] for line in lines), macro[name], micro[name][0]]
    undefined = [[name for name in PER_CLASS if line[name][1]] for line in (*lines, micro)]
    undefined.insert(-1, [])
    names = [f"p{k}" for k in range(classes)]
    if set(names) <= set(rows.columns):
        found = _auc(label, rows[names].fillna(0.0).to_numpy(dtype=float))
        columns["auc"] = [0.0 if math.isnan(value) else value for value in found]
        for missing, value in zip(undefined, found, strict=True):
            missing += ["auc"] if math.isnan(value) else []
    columns["undefined"] = [" ".join(missing) for missing in undefined]
    index = pd.Index([*range(classes), "macro", "micro"], dtype=object, name="class")
    return pd.DataFrame(columns, index=index)


def classification(rows: pd.DataFrame, classes: int) -> tuple[Measurement, ...]:
    """Return macro and micro averages over classes, and the MCC of the whole confusion matrix; without intervals.

    Micro precision, recall and F1 are the accuracy, unless outputs are missing, and are left out.
    """
    table = by_class(rows, classes)
    averaged = [*PER_CLASS, *(["auc"] if "auc" in table else [])]
    macro, micro = (
        dict(zip(averaged, table.loc[line, averaged], strict=True)) for line in ("macro", "micro")
    )
    values = {f"macro_{name}": value for name, value in macro.items()}
    values |= {f"micro_{name}": value for name, value in micro.items() if name not in _ACCURACY}
    values["mcc"] = _correlation(*_answers(rows, classes))
    return tuple(Measurement(name, value, None, None, len(rows)) for name, value in values.items())


_ACCURACY = ("precision", "recall", "f1", "false_discovery_rate")
"""Whose micro average is the accuracy, or what it lacks to 1."""


def _mean(values: pd.Series[float], metric: str) -> Measurement:
    n, mean = len(values), float(values.mean())
    half = Z * float(values.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    known = math.isfinite(half)
    return Measurement(
        metric, mean, max(mean - half, 0.0) if known else None, mean + half if known else None, n
    )


def _whole_number(k: int) -> int:
    if k < 1:
        raise DataError(f"top-k accuracy: expected k >= 1, got {k}")
    return k


def _answers(rows: pd.DataFrame, classes: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return labels and predictions, -1 where there is none."""
    label, prediction = (rows[name].to_numpy(dtype=np.int64) for name in ("label", "prediction"))
    if not len(rows):
        raise DataError("classification: expected at least one image, got none")
    if label.min() < 0 or label.max() >= classes or prediction.min() < -1 or prediction.max() >= classes:
        low, high = min(label.min(), prediction.min()), max(label.max(), prediction.max())
        raise DataError(
            f"classification: expected labels and predictions in 0..{classes - 1}, got {low}..{high}; "
            "give the number of the model's outputs as classes"
        )
    return label, prediction


def _measures(*counts: Any) -> dict[str, tuple[float, bool]]:
    """Return each measure of one class with whether it is undefined.

    scikit-learn has four of them, and does not tell which are undefined.
    """
    tp, fp, fn, tn = map(float, counts)
    root = math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    fractions = {
        "precision": (tp, tp + fp),
        "recall": (tp, tp + fn),
        "specificity": (tn, tn + fp),
        "false_positive_rate": (fp, tn + fp),
        "false_discovery_rate": (fp, tp + fp),
        "f1": (2 * tp, 2 * tp + fp + fn),
        "mcc": (tp * tn - fp * fn, root),
    }
    return {name: (over / under if under else 0.0, not under) for name, (over, under) in fractions.items()}


def _correlation(label: NDArray[np.int64], prediction: NDArray[np.int64]) -> float:
    """Return the MCC of several classes (Gorodkin 2004), the correlation of indicators; 0 if one is constant."""
    # scikit-learn warns of a single class
    several = len(np.union1d(label, prediction)) > 1
    from sklearn.metrics import matthews_corrcoef  # slow to import

    return float(matthews_corrcoef(label, prediction)) if several else 0.0


def _auc(label: NDArray[np.int64], p: NDArray[Any]) -> list[float]:
    """Return the AUC of each class, their mean and that of all decisions together; NaN where it is undefined."""
    is_class = label[:, None] == np.arange(p.shape[1])
    each = [_area(is_class[:, k], p[:, k]) for k in range(p.shape[1])]
    known = [area for area in each if not math.isnan(area)]
    return [*each, float(np.mean(known)) if known else math.nan, _area(is_class.ravel(), p.ravel())]


def _area(positive: NDArray[np.bool_], score: NDArray[Any]) -> float:
    """Return how often a positive has the higher score of a pair, ties by half (Mann and Whitney).

    The same as ``roc_auc_score``, in a third of its time.
    """
    ones = int(positive.sum())
    zeros = len(positive) - ones
    if not ones * zeros:
        return math.nan
    above = float(rankdata(score)[positive].sum()) - ones * (ones + 1) / 2
    return above / (ones * zeros)


CALIBRATION = ("calibration_error", "calibration_error_equal_mass", "confidence_gap")
"""The metrics' names that a report shows."""


def calibration_shown(rows: pd.DataFrame) -> list[Measurement]:
    """Return calibration errors by equal width and by equal mass, and the signed gap, mean confidence - accuracy.

    Nothing for rows without confidences.
    """
    return [found for found in calibration(rows) if found.metric in CALIBRATION]
