"""What the section of provenance says of batches."""

import pandas as pd

from reports.section import Source
from reports.sections.provenance import sections
from robust_eval.findings import Measurement
from robust_eval.identity import content_key
from robust_eval.results.load import load
from robust_eval.results.record import Record
from robust_eval.results.store import Store


def facts(folder, *batches):
    """The facts told of records of attacks that were made in these batches."""
    for number, made in enumerate(batches):
        spec = {"perturbation": {"name": "square"}, "seed": number}
        labels = {
            **dict.fromkeys(
                ("model", "arch", "regularizer", "model_key", "data", "defense", "access"), "none"
            ),
            "family": "attack",
            "perturbation": "square",
            "norm": "linf",
            "eps": 0.1,
            "seed": number,
        }
        summary = (Measurement("accuracy", 0.5, 0.3, 0.7, 8),)
        provenance = {"seconds": 1.0} | ({} if made is None else {"batches": made})
        rows = {"index": range(8), "score": 0.5, "clean_score": 1.0, "attacked": True}
        Store(folder).write(
            Record(content_key(spec), spec, labels, summary, (), provenance, pd.DataFrame(rows))
        )
    return dict(next(iter(sections(Source(load([folder]))))).body.pairs)


def test_batches_are_told_by_way_and_precision_summed_over_records(tmp_path):
    told = facts(
        tmp_path,
        {"forward bf16": {"4": [3, 17], "64": [1, 100]}, "backward bf16": {"64": [2, 200]}},
        {"forward bf16": {"64": [1, 83]}},
        None,  # of an older version
    )
    assert told["attacks, forward bf16"] == "200 images, 40 at a time"
    assert told["attacks, backward bf16"] == "200 images, 100 at a time"
    assert not any("batches" in name for name in told)


def test_batches_of_another_form_are_not_told(tmp_path):
    for number, odd in enumerate(
        (5, {"forward": 3}, {"forward": {"4": "9"}}, {"forward": {"4": [0, 5]}}, [[]])
    ):
        assert not [name for name in facts(tmp_path / str(number), odd) if name.startswith("attacks,")]
