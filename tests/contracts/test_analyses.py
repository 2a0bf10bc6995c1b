"""What every registered analysis promises. A new one is tested here without a line being added."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch

import trainers
from robust_eval import Classifier, Rng
from robust_eval.classifier.normalized import Normalized
from robust_eval.errors import ConfigError, DataError
from robust_eval.findings import Measurement
from robust_eval.methods import Analysis, Batch
from robust_eval.models.architectures.plain_cnn import PlainNetwork
from robust_eval.models.architectures.small_cnn import SmallNetwork
from robust_eval.registry import build, describe, find, names

assert trainers  # its import registers the regularizers that analyses look at
N, CLASSES = 14, 3
# small ones of what would take long
FIELDS = {
    "detection": {"resamples": 20},
    "in_between": {"pairs": 9, "points": 3},
    "perfect_order": {"per_class": 2, "batch_size": 2, "epochs": 2, "clusters": 2},
}
ANALYSES = [
    pytest.param(build("analysis", name, FIELDS.get(name, {})), id=name) for name in names("analysis")
]
every_analysis = pytest.mark.parametrize("analysis", ANALYSES)
comparing = pytest.mark.parametrize("analysis", [p for p in ANALYSES if p.values[0].compares])


def network(analysis=None):
    """A network with batch normalisation, or where the analysis refuses that one without."""
    torch.manual_seed(0)
    made = SmallNetwork(3, channels=3, classes=CLASSES)
    made.bn1.running_mean.uniform_(-0.2, 0.2)
    if analysis is not None and analysis.misfit(made) is not None:
        made = PlainNetwork(3, channels=3, classes=CLASSES)
    return Normalized(made, (0.5, 0.4, 0.6), (0.25, 0.2, 0.3)).eval()


def batch(seed=1, n=N, side=8, classes=CLASSES):
    generator = torch.Generator().manual_seed(seed)
    return Batch(torch.rand(n, 3, side, side, generator=generator), torch.arange(n) % classes, classes)


def look(analysis, model=None, *, seed=0, **given):
    images = given.pop("images", batch())
    sets = {"other": batch(2) if analysis.compares else None, "training": batch(3)} | given
    return analysis.look(
        model or Classifier(network(analysis), accelerate=False),
        images,
        **sets,
        rng=Rng(seed).for_batch(len(images.x)).child("analysis"),
    )


@every_analysis
def test_it_finds_a_table_of_words_and_numbers_that_a_record_can_hold(analysis, tmp_path):
    table = look(analysis)
    assert len(table) and isinstance(table.index, pd.RangeIndex)
    kinds = {column: table[column].dtype for column in table}
    assert all(pd.api.types.is_numeric_dtype(kind) or kind in ("object", "str") for kind in kinds.values())
    table.to_parquet(tmp_path / "rows.parquet", index=False)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "rows.parquet"), table, check_dtype=False)


@every_analysis
def test_the_same_seed_finds_the_same(analysis):
    pd.testing.assert_frame_equal(look(analysis), look(analysis), check_exact=True)


@every_analysis
def test_the_summary_is_made_of_the_table_alone(analysis, tmp_path):
    table = look(analysis)
    table.to_parquet(tmp_path / "rows.parquet", index=False)
    first, again = analysis.summary(table), analysis.summary(pd.read_parquet(tmp_path / "rows.parquet"))
    assert first == again
    assert first and all(isinstance(number, Measurement) for number in first)
    assert len({number.metric for number in first}) == len(first)
    for number in first:
        assert isinstance(number.value, float) and np.isfinite(number.value) and number.n > 0
        if number.ci_low is not None:
            assert number.ci_low <= number.value + 1e-12 and number.value <= number.ci_high + 1e-12


@every_analysis
@pytest.mark.parametrize("size", [1, 5])
def test_the_batch_size_changes_nothing_but_rounding(analysis, size):
    whole = look(analysis, Classifier(network(analysis), accelerate=False, batch_size=64))
    parts = look(analysis, Classifier(network(analysis), accelerate=False, batch_size=size))
    pd.testing.assert_frame_equal(whole, parts, rtol=1e-4, atol=1e-5)


@every_analysis
def test_weights_modes_and_images_are_left_as_they_were(analysis):
    inside = network(analysis).train()
    next(inside.network.children()).eval()
    inside.network.conv1.weight.requires_grad_(False)
    before, images = copy.deepcopy(inside), batch()
    x = images.x.clone()
    look(analysis, Classifier(inside, accelerate=False), images=images)
    assert torch.equal(images.x, x)
    for (name, value), other in zip(inside.state_dict().items(), before.state_dict().values(), strict=True):
        assert torch.equal(value, other), name
    assert [m.training for m in inside.modules()] == [m.training for m in before.modules()]
    assert [p.requires_grad for p in inside.parameters()] == [p.requires_grad for p in before.parameters()]
    assert all(p.grad is None for p in inside.parameters())


@every_analysis
def test_what_is_drawn_are_columns_of_the_table(analysis):
    plot = analysis.plot
    if plot is None:
        return
    table = look(analysis)
    assert plot.x in table and (plot.split is None or plot.split in table)
    # else the share of the rows is drawn
    assert plot.y in table or pd.api.types.is_float_dtype(table[plot.x])


@comparing
def test_without_a_second_set_or_with_one_of_another_shape_it_says_what_to_do(analysis):
    name = describe(analysis).name
    with pytest.raises(DataError, match=f"^{name}: expected another set of images .*, got none; name one"):
        look(analysis, other=None)
    with pytest.raises(DataError, match=f"^{name}: expected other images of 3x8x8, .* got 3x4x4; .*--resize"):
        look(analysis, other=batch(2, side=4))
    grey = batch(2)._replace(x=batch(2).x[:, :1])
    with pytest.raises(DataError, match="got 1x8x8; give images with 3 channels"):
        look(analysis, other=grey)


@every_analysis
def test_an_analysis_is_rebuilt_from_its_description(analysis):
    name = describe(analysis).name
    assert isinstance(analysis, Analysis) and isinstance(analysis, find("analysis", name))
    assert build("analysis", name, describe(analysis).params) == analysis
    with pytest.raises(ConfigError, match=f"analysis '{name}': unknown field 'colour'"):
        build("analysis", name, {"colour": 3})
