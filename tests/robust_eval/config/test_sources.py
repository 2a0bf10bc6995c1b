import numpy as np
import pytest
import torch

from robust_eval.config.experiment import parse
from robust_eval.config.plan import plan
from robust_eval.config.sources import at, is_data_factory, opened
from robust_eval.config.trust import code_in
from robust_eval.errors import ConfigError, DataError, RobustEvalError

CODE = """
import numpy as np
import torch
from torch.utils.data import TensorDataset

x, y = torch.arange(12.).view(3, 1, 2, 2) / 12, torch.tensor([0, 1, 1])
pair = lambda: (x, y)
arrays = lambda: (x.numpy(), y.numpy())
splits = lambda: {"test": (x, y), "train": (x[:2], y[:2])}
dataset = lambda: TensorDataset(x, y)
loader = lambda: torch.utils.data.DataLoader(TensorDataset(x, y), batch_size=2)
named = lambda: {"tests": (x, y)}
text = lambda: "images"
ragged = lambda: [(torch.zeros(1, 2, 2), 0), (torch.zeros(1, 3, 2), 0), (torch.zeros(1, 3, 2), 0)]

def some(n, *, text=":/"):
    return x[:n], y[:n]

def net():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
"""


@pytest.fixture
def code(tmp_path):
    (tmp_path / "own.py").write_text(CODE)
    return f"{tmp_path}/own.py"


@pytest.mark.parametrize("name", ["pair", "arrays", "splits", "dataset", "loader"])
def test_a_function_of_the_users_gives_images_in_any_usual_form(code, name):
    source = opened(f"{code}:{name}")
    examples = source.test(None)
    assert source.name == name and examples.labels.tolist() == [0, 1, 1]
    assert torch.allclose(examples.pixels().flatten(), torch.arange(12.0) / 12)
    assert (source.train() is None) == (name != "splits") and len(source.test(2)) == 2


def test_a_function_of_the_users_takes_arguments(code):
    spec = f"{code}:some(n=2, text='a:b/c')"
    assert is_data_factory(spec) and opened(spec).name == "some" and len(opened(spec).test(None)) == 2


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("named", "expected images under 'test'"),
        ("text", "expected batches"),
        ("ragged", r"expected \(x, y\), or a data set of pairs"),
        ("missing", "no function 'missing'"),
    ],
)
def test_what_is_no_data_is_refused_in_one_line(code, name, told):
    with pytest.raises(RobustEvalError, match=told) as error:
        opened(f"{code}:{name}").test(None)
    assert "\n" not in str(error.value)


def test_options_for_files_are_not_for_functions(code):
    with pytest.raises(DataError, match="are for files; let the function do it"):
        opened(f"{code}:pair", size=4)


def test_what_would_run_code_is_told_of_data_too(code):
    tables = {"data": {"name": "own.py:pair", "pool": "digits"}, "analysis": [{"other": ["svhn", "b.py:g"]}]}
    assert code_in(tables) == ["data: 'own.py:pair'", "data: 'b.py:g'"]
    assert not is_data_factory("own.py") and not is_data_factory("a:b.npz")


def test_paths_of_data_start_at_the_experiment_in_every_form(tmp_path):
    (tmp_path / "here").mkdir()
    for name in ("images.npy", "labels.npy"):
        (tmp_path / "here" / name).touch()
    assert at(tmp_path, "digits") == "digits" and at(tmp_path, "nothing") == "nothing"
    assert at(tmp_path, "here") == str(tmp_path / "here")
    assert at(tmp_path, "w-{0..2}.tar") == str(tmp_path / "w-{0..2}.tar")
    assert at(tmp_path, "own.py:pair") == str(tmp_path / "own.py:pair")
    both = f"{tmp_path}/here/images.npy,{tmp_path}/here/labels.npy"
    assert (
        at(tmp_path, "here/images.npy,labels.npy") == at(tmp_path, "here/images.npy,here/labels.npy") == both
    )


def tables(code, **more):
    model = {"architecture": f"{code}:net"}
    return {
        "data": {"name": f"{code}:pair"},
        "model": [model],
        "attack": [{"name": "fgsm"}],
        "checks": "off",
    } | more


def cells(code, tmp_path, **more):
    return plan(parse(tables(code, **more), where="here", folder=tmp_path))


def test_a_mask_is_in_the_keys_of_attacks_alone_and_none_leaves_them_as_they_were(code, tmp_path):
    np.save(tmp_path / "mask.npy", np.eye(2))
    np.save(tmp_path / "other.npy", 1 - np.eye(2))
    plain, masked, other = (
        cells(code, tmp_path, **more) for more in ({}, {"mask": "mask.npy"}, {"mask": "other.npy"})
    )
    keys = [[cell.key for cell in found] for found in (plain, masked, other)]
    assert keys[0][0] == keys[1][0] == keys[2][0] and len({key for found in keys for key in found}) == 4
    assert "mask" not in plain[1].spec and plain[1].labels["norm"] == "linf"
    assert masked[1].labels["norm"].startswith("linf within a mask of 50 % of the pixels (")
    assert "linf 8/255 within a mask of 50 % of the pixels" in str(masked[1])


@pytest.mark.parametrize(
    ("attack", "told"),
    [
        ([{"name": "rotation_translation"}], "can be held to the free pixels, got rotation_translation"),
        ([], "expected an attack that it is for, got none"),
    ],
)
def test_attacks_that_cannot_be_masked_are_refused(code, tmp_path, attack, told):
    np.save(tmp_path / "mask.npy", np.eye(2))
    with pytest.raises(ConfigError, match=told):
        cells(code, tmp_path, mask="mask.npy", attack=attack)


def test_the_mask_of_a_run_is_kept_with_its_place(code, tmp_path):
    np.save(tmp_path / "mask.npy", np.eye(2))
    experiment = parse(tables(code, mask="mask.npy"), where="here", folder=tmp_path)
    assert experiment.tables()["mask"] == str(tmp_path / "mask.npy")
