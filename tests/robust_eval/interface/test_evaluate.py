"""One call in Python gives what the command gives, takes what users have at hand, and refuses the rest in one line."""

import logging

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from typer.testing import CliRunner

import robust_eval
from robust_eval import Classifier, Results, attack, errors
from robust_eval.cli import app
from robust_eval.data import open_source
from robust_eval.registry import find

SIDE = 6
QUICK = {"checks": "off", "progress": False}


def linear(seed: int = 0, classes: int = 4) -> nn.Module:
    """A linear network, whose margins are known."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, classes))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        net[1].weight.copy_(torch.randn(net[1].weight.shape, generator=generator) / 10)
        net[1].bias.copy_(-0.5 * net[1].weight.sum(1))  # so that no class is met much more often
    return net


NET = linear()
X = torch.rand(40, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
Y = NET(X).argmax(1)


def test_the_accuracy_under_attack_is_the_share_of_margins_beyond_the_radius():
    net, eps = linear(classes=2), 0.01
    inside = X * 0.5 + 0.25  # so that no pixel meets the box
    y = net(inside).argmax(1)
    y[:3] = 1 - y[:3]  # three that are wrong when clean
    found = robust_eval.evaluate(net, inside, y, attacks="pgd", eps=eps, **QUICK).table()
    with torch.no_grad():
        weight, logits = net[1].weight, net(inside)
        reach = eps * (weight[0] - weight[1]).abs().sum()
        held = ((logits[:, 0] - logits[:, 1]).abs() > reach) & (logits.argmax(1) == y)
    row = found[found["perturbation"] == "pgd"].iloc[0]
    assert 0 < row["accuracy"] < 0.9 and row["accuracy"] == pytest.approx(float(held.double().mean()))
    assert row["low"] < row["accuracy"] < row["high"] and row["n"] == 40 and row["verdict"] == "unexamined"
    assert found[found["perturbation"] == "none"]["accuracy"].item() == pytest.approx(37 / 40)


def test_the_command_gives_the_same_numbers(tmp_path):
    torch.save(NET.state_dict(), tmp_path / "net.pt")
    (tmp_path / "net.py").write_text(
        "import torch\n"
        "def build():\n"
        f"    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear({3 * SIDE * SIDE}, 4))\n"
        f"    net.load_state_dict(torch.load({str(tmp_path / 'net.pt')!r}, weights_only=True))\n"
        "    return net\n"
    )
    np.savez(tmp_path / "images.npz", x=X.numpy(), y=Y.numpy())
    asked = [
        "--attacks",
        "pgd,deepfool",
        "--eps",
        "2/255",
        "--eps",
        "l2:0.1",
        "--corruptions",
        "fog,contrast",
    ]
    run = [*("evaluate", "--arch", f"{tmp_path}/net.py:build", "--data", f"{tmp_path}/images.npz"), *asked]
    out = ["--out", str(tmp_path / "run"), "--checks", "off"]
    assert CliRunner().invoke(app, [*run, *out]).exit_code == 0
    theirs = robust_eval.load(tmp_path / "run").table()
    ours = robust_eval.evaluate(
        NET,
        X,
        Y,
        attacks=["pgd", "deepfool"],
        eps=["2/255", "l2:0.1"],
        corruptions=("fog", "contrast"),
        **QUICK,
    ).table()
    same = ["perturbation", "norm", "eps", "severity", "accuracy", "low", "high", "n", "verdict"]
    pd.testing.assert_frame_equal(ours[same], theirs[same])


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(lambda: (NET, X.numpy(), Y.numpy()), id="arrays"),
        pytest.param(lambda: (NET, X, Y.tolist()), id="a list of labels"),
        pytest.param(lambda: (Classifier(NET), X, Y), id="a classifier"),
        pytest.param(lambda: (NET, DataLoader(TensorDataset(X, Y), batch_size=7), None), id="a loader"),
        pytest.param(lambda: (NET.__call__, X, Y), id="a function of tensors"),
    ],
)
def test_what_users_have_at_hand_gives_the_same_numbers(given):
    def numbers(*args):
        found = robust_eval.evaluate(*args, attacks="pgd", eps="1/255", fields={"pgd": {"steps": 5}}, **QUICK)
        return found.table()["accuracy"].tolist()

    assert numbers(*given()) == numbers(NET, X, Y)


def test_images_of_bytes_are_divided_by_255():
    whole = (X * 255).round().to(torch.uint8)
    found = [
        robust_eval.evaluate(NET, x, Y, attacks="none", **QUICK).table()["accuracy"].item()
        for x in (whole, whole.numpy(), whole.float() / 255)
    ]
    assert found[0] == found[1] == found[2]


def test_a_function_of_arrays_is_attacked_without_gradients():
    weight, bias = NET[1].weight.detach().numpy(), NET[1].bias.detach().numpy()

    def answers(images):
        assert isinstance(images, np.ndarray)
        return images.reshape(len(images), -1) @ weight.T + bias

    found = robust_eval.evaluate(answers, X, Y, attacks="square", eps="4/255", **QUICK).table()
    assert found["accuracy"].iloc[0] == 1 and 0 <= found["accuracy"].iloc[1] < 0.9
    assert found["model"].iloc[0] == "answers"


def test_normalisation_is_put_inside():
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    plain = nn.Sequential(nn.BatchNorm2d(3, affine=False), linear()).eval()
    plain[0].running_mean.copy_(torch.tensor(mean))
    plain[0].running_var.copy_(torch.tensor(std) ** 2)
    asked = {"attacks": "pgd", "eps": "1/255", **QUICK}
    inside = robust_eval.evaluate(NET, X, Y, mean=mean, std=std, **asked).table()["accuracy"]
    assert inside.tolist() == pytest.approx(
        robust_eval.evaluate(plain, X, Y, **asked).table()["accuracy"].tolist()
    )


def test_several_models_are_compared_on_the_same_images():
    found = robust_eval.evaluate({"old": NET, "new": linear(5)}, X, Y, attacks="none", **QUICK)
    assert set(found.table()["model"]) == {"old", "new"}
    assert found.sentences[0].startswith("old is the most accurate: 100.0 %")


def test_a_method_is_taken_for_its_name_and_fields():
    ways = [
        {"attacks": attack("pgd", steps=3, eps="1/255")},
        {"attacks": {"name": "pgd", "steps": 3, "eps": "1/255"}},
        {"attacks": "pgd", "eps": "1/255", "fields": {"pgd": {"steps": 3}}},
        {"attacks": ("pgd",), "eps": 1 / 255, "fields": {"pgd": {"steps": 3}}},
    ]
    tables = [robust_eval.evaluate(NET, X, Y, **way, **QUICK).results for way in ways]
    assert len({tuple(table["key"]) for table in tables}) == 1


def test_with_a_folder_a_second_call_measures_only_what_is_new(tmp_path, monkeypatch):
    asked = {"attacks": "pgd", "eps": "1/255", "out": tmp_path / "run", **QUICK}
    first = robust_eval.evaluate(NET, X, Y, **asked)
    monkeypatch.setattr(
        "robust_eval.evaluation.evaluate.attacked", lambda *args, **kwargs: pytest.fail("measured again")
    )
    again = robust_eval.evaluate(NET, X, Y, **asked)
    pd.testing.assert_frame_equal(first.table(), again.table())
    assert (
        robust_eval.load(tmp_path / "run").table()["accuracy"].tolist() == first.table()["accuracy"].tolist()
    )


def test_other_weights_are_another_model(tmp_path):
    asked = {"attacks": "none", "out": tmp_path / "run", **QUICK}
    robust_eval.evaluate(NET, X, Y, **asked)
    changed = linear(3)
    assert robust_eval.evaluate(changed, X, Y, **asked).results["key"].nunique() == 2


def test_another_forward_with_the_same_weights_is_another_model(tmp_path):
    class Doubled(nn.Sequential):
        def forward(self, x):
            return -super().forward(x)

    asked = {"attacks": "none", "out": tmp_path / "run", **QUICK}
    robust_eval.evaluate(NET, X, Y, name="net", **asked)
    found = robust_eval.evaluate(Doubled(*NET), X, Y, name="net", **asked)
    assert found.results["model"].nunique() == 2


def test_the_folder_of_results_in_memory_goes_with_them():
    found = robust_eval.evaluate(NET, X, Y, attacks="none", **QUICK)
    folder = found.folder
    assert folder.is_dir()
    del found
    assert not folder.exists()


def test_the_images_that_were_given_may_change_afterwards():
    images = X.clone()
    found = robust_eval.evaluate(NET, images, Y, attacks="none", **QUICK)
    images.zero_()
    assert found.table()["accuracy"].item() == 1
    assert NET.training  # and the network is as it was


def test_the_adversarials_are_those_that_were_measured():
    net, eps = linear(classes=2), 0.01
    inside = X * 0.5 + 0.25
    y = net(inside).argmax(1)
    found = robust_eval.evaluate(net, inside, y, attacks=("pgd", "deepfool"), eps=(eps, "l2:0.1"), **QUICK)
    x, rows = found.examples("pgd", norm="linf")
    assert (x - inside).abs().max() <= eps + 1e-6 and x.min() >= 0 and x.max() <= 1
    wrong = (net(x).argmax(1) != y).numpy()
    assert (rows["success"].to_numpy() == wrong).all() and wrong.any()
    table = found.table()
    accuracy = table[(table["perturbation"] == "pgd") & (table["norm"] == "linf")]["accuracy"].item()
    assert 1 - wrong.mean() == pytest.approx(accuracy)
    nearest = found.examples("deepfool")
    distance = (nearest.x - inside).flatten(1).norm(dim=1)
    assert distance.numpy() == pytest.approx(nearest.rows["distance"].to_numpy(), rel=1e-4)
    with pytest.raises(
        errors.DataError, match=r"expected one attack, got none for .cw.; name one of .*deepfool"
    ):
        found.examples("cw")
    with pytest.raises(
        errors.DataError, match="expected one attack, got 2 for 'pgd'; name one of pgd Sequential l"
    ):
        found.examples("pgd")


def test_adversarials_are_saved_with_a_folder_only_where_asked(tmp_path):
    asked = {"attacks": "pgd", "eps": "1/255", "out": tmp_path / "run", **QUICK}
    first = robust_eval.evaluate(NET, X, Y, **asked)
    with pytest.raises(errors.DataError, match="measure with --save-examples"):
        first.examples("pgd")
    again = robust_eval.evaluate(NET, X, Y, save_examples=True, **asked)
    assert again.examples("pgd").x.shape == X.shape
    assert again.table()["accuracy"].tolist() == first.table()["accuracy"].tolist()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Weights of a small network in a file, the network, and images of the named set that it is asked about."""
    torch.manual_seed(0)
    net = find("architecture", "small_cnn")(width=4).build(channels=1, classes=10).eval()
    path = tmp_path_factory.mktemp("saved") / "best.pt"
    torch.save(net.state_dict(), path)
    return path, net, open_source("digits").test(12)


@pytest.mark.parametrize(("path_given", "name_given"), [(True, True), (True, False), (False, True)])
def test_a_checkpoint_and_a_set_may_be_named_and_the_numbers_are_those_of_the_things_themselves(
    saved, path_given, name_given
):
    path, net, digits = saved
    asked = {"n": 12, "attacks": "pgd", "eps": "2/255", "mean": 0.5, "std": 0.25, "name": "it", **QUICK}
    few = {"pgd": {"steps": 2}}
    things = robust_eval.evaluate(net, digits.pixels(), digits.labels, fields=few, **asked).table()
    if path_given:
        asked |= {"arch": "small_cnn", "fields": few | {"small_cnn": {"width": 4}}}
    else:
        asked |= {"fields": few}
    images = ("digits", None) if name_given else (digits.pixels(), digits.labels)
    named = robust_eval.evaluate(path if path_given else net, *images, **asked).table()
    columns = ["model", "perturbation", "eps", "accuracy", "n"]
    pd.testing.assert_frame_equal(named[columns], things[columns])
    with torch.no_grad():
        right = net((digits.pixels() - 0.5) / 0.25).argmax(1) == digits.labels
    assert named["accuracy"][0] == pytest.approx(right.double().mean().item())


def test_a_function_is_attacked_without_gradients_on_a_named_set_too():
    few = {"square": {"queries": 3}, "hop_skip_jump": {"queries": 3}}
    found = robust_eval.evaluate(
        lambda images: np.asarray(images).reshape(len(images), -1)[:, :10], "digits", n=2, fields=few, **QUICK
    ).table()
    assert {"square", "hop_skip_jump"} <= set(found["perturbation"]) and "pgd" not in set(
        found["perturbation"]
    )


def test_one_image_is_enough_for_the_default_attacks():
    few = {name: {"steps": 1} for name in ("bim", "mim", "pgd", "cw", "deepfool", "apgd_ce")}
    found = robust_eval.evaluate(NET, X[:1], Y[:1], fields=few, **QUICK).table()
    assert set(found["n"]) == {1} and "pgd" in set(found["perturbation"])


def test_models_in_files_and_in_memory_are_compared_and_each_keeps_its_name(saved):
    path, net, _ = saved
    both = {"file": path, "memory": net}
    found = robust_eval.evaluate(
        both, "digits", n=12, arch="small_cnn", fields={"small_cnn": {"width": 4}}, attacks="none", **QUICK
    ).table()
    clean = found[found["perturbation"] == "none"].set_index("model")["accuracy"]
    assert sorted(clean.index) == ["file", "memory"] and clean["file"] == clean["memory"]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"model": "none.pt"}, "none.pt: expected the file of a checkpoint, got none"),
        (
            {"model": NET, "arch": "small_cnn"},
            "arch: expected it with the path of a checkpoint, got a network",
        ),
        ({"arch": 3}, "arch: expected a name, got int"),
        ({"arch": "small_cnm"}, "did you mean 'small_cnn'"),
        ({"mean": "half"}, "mean: expected numbers, one a channel, got 'half'"),
        ({"model": "timm:resnet10t", "arch": "timm:resnet10t"}, "give one of them"),
        ({"y": [1]}, "y: expected it beside images, got it with the name of a set"),
        ({"pool": X}, "pool: expected the name of a set, as x is one, got images"),
        ({"x": X, "y": Y, "pool": "digits"}, "pool: expected images and labels, as x is given so"),
        ({"x": X, "y": Y, "size": 4}, "size: expected it with the name of a set, got images"),
        ({"x": "digit"}, "did you mean 'digits'"),
        ({"n": 0}, "n: expected >= 1, got 0"),
        ({"model": ""}, "expected names of models, got ''"),
    ],
)
def test_what_is_wrong_with_a_name_is_told_in_one_line(saved, wrong, told):
    asked = {"model": saved[0], "x": "digits", "attacks": "none", **QUICK} | wrong
    with pytest.raises(errors.RobustEvalError) as caught:
        robust_eval.evaluate(**asked)
    assert told in str(caught.value) and "\n" not in str(caught.value)


def test_a_report_is_written_where_asked(tmp_path):
    page = robust_eval.evaluate(NET, X, Y, attacks="none", **QUICK).report(tmp_path / "report")
    assert page == tmp_path / "report" / "index.html" and "Sequential" in page.read_text()


def test_in_a_notebook_the_answer_is_a_table_in_which_names_are_escaped():
    found = robust_eval.evaluate(
        NET, X, Y, attacks="pgd", eps="1/255", name="<script>alert(1)</script>", **QUICK
    )
    html = found._repr_html_()
    assert html.count("<table") == 1 and "<script>" not in html and "&lt;script&gt;" in html
    assert str(found) == repr(found) and "worst case" in str(found)
    assert max(map(len, str(found).splitlines())) <= 120


def test_a_cell_that_fails_is_told_and_does_not_stop_the_others(monkeypatch, caplog):
    def falls(*args, **kwargs):
        raise ValueError("no luck")

    monkeypatch.setattr("robust_eval.evaluation.evaluate.attacked", falls)
    with caplog.at_level(logging.WARNING):
        found = robust_eval.evaluate(NET, X, Y, attacks="pgd", eps="1/255", **QUICK)
    assert [failure.error for failure in found.failed] == ["ValueError: no luck"]
    assert "1 cell failed: ValueError: no luck" in caplog.text
    assert found.table()["accuracy"].dropna().tolist() == [1.0] and "failed" in str(found)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"model": NET.state_dict()}, "give the network after net.load_state_dict"),
        ({"model": nn.Linear}, "give one of it, such as Linear()"),
        ({"model": {}}, "expected a network, or several by name, got none"),
        ({"attacks": "pgdd"}, "did you mean 'pgd'"),
        ({"attacks": 7}, "expected a method's name, such as 'pgd'"),
        ({"x": X * 255}, "divided by 255"),
        ({"x": X.permute(0, 2, 3, 1)[:, :, :, [0, 1, 2]].repeat(1, 2, 2, 1)}, "permute(0, 3, 1, 2)"),
        ({"y": None}, "images without labels; give y"),
        ({"y": Y + 2}, "expected labels in 0..3, the outputs of Sequential, got label 5"),
        ({"y": Y[:5]}, "expected one for each of 40 images, got 5"),
        ({"eps": "8"}, "did you mean '8/255'"),
        ({"fields": {"pdg": {"steps": 3}}}, "fields: pdg: no such method in this run (did you mean 'pgd'?)"),
        ({"defenses": "mixup_inference"}, "name some with pool"),
        ({"device": "gpu"}, "expected auto, cpu, cuda or cuda:N, got 'gpu'"),
        ({"checks": "some"}, "some"),
        ({"x": iter([]), "y": None}, "expected at least one batch from the loader, got none"),
        ({"x": [X], "y": None}, "expected batches (images, labels) from the loader"),
        ({"class_names": ["cat"]}, "expected a name for each of 4 classes, got 1"),
        ({"out": "/dev/null"}, "expected a folder, got"),
    ],
)
def test_what_is_wrong_is_told_in_one_line_with_the_names_of_arguments(wrong, told):
    asked = {"model": NET, "x": X, "y": Y, "attacks": "pgd", **QUICK} | wrong
    with pytest.raises(errors.RobustEvalError) as caught:
        robust_eval.evaluate(**asked)
    text = str(caught.value)
    assert told in text and "\n" not in text and "--" not in text


def test_a_folder_without_records_is_told(tmp_path):
    with pytest.raises(errors.DataError, match="expected the folder of a run, got none"):
        robust_eval.load(tmp_path / "nothing")
    with pytest.raises(errors.DataError, match="records/"):
        robust_eval.load(tmp_path)


def test_help_reads_well():
    assert (
        robust_eval.evaluate.__doc__
        and isinstance(robust_eval.Results, type)
        and Results is robust_eval.Results
    )
    assert {"evaluate", "load", "Results"} <= set(dir(robust_eval))


def test_accuracy_under_a_masked_attack_is_the_share_of_margins_beyond_the_dual_norm_of_the_free_weights():
    net, eps = linear(classes=2), 0.02
    inside = X * 0.5 + 0.25  # so that no pixel meets the box
    y = net(inside).argmax(1)
    mask = np.zeros((SIDE, SIDE), bool)
    mask[1:4, :3] = True
    found = robust_eval.evaluate(net, inside, y, attacks="pgd", eps=eps, mask=mask, **QUICK)
    with torch.no_grad():
        normal, logits = net[1].weight[0] - net[1].weight[1], net(inside)
        reach = eps * (normal.view(3, SIDE, SIDE).abs() * torch.from_numpy(mask)).sum()
        held = (logits[:, 0] - logits[:, 1]).abs() > reach
    row = found.table().set_index("perturbation").loc["pgd"]
    assert row["accuracy"] == pytest.approx(float(held.double().mean())) and 0 < row["accuracy"] < 1
    assert row["norm"].startswith("linf within a mask of 25 % of the pixels (")


def test_a_mask_of_another_size_is_refused():
    with pytest.raises(errors.ConfigError, match=r"mask: expected \[h,w\].* for images of 3x6x6"):
        robust_eval.evaluate(NET, X, Y, attacks="fgsm", mask=np.ones((5, 5)), **QUICK)


def test_accuracy_in_l0_is_the_share_of_images_that_so_many_pixels_cannot_flip(tmp_path):
    net = linear(classes=2)
    y = net(X).argmax(1)
    with torch.no_grad():
        slope = (net[1].weight[1] - net[1].weight[0]) * (1 - 2 * y[:, None])
        brings = (
            torch.where(slope > 0, slope * (1 - X.flatten(1)), -slope * X.flatten(1)).view(X.shape).sum(1)
        )
        most = brings.flatten(1).sort(1, descending=True).values.cumsum(1)
        fewest = (most <= (net(X)[:, 0] - net(X)[:, 1]).abs()[:, None]).sum(1) + 1
    found = robust_eval.evaluate(net, X, y, attacks="sigma_zero", eps=["l0:1", "l0:2"], **QUICK)
    frame = found.table()
    rows = frame[frame["norm"] == "l0"].set_index("eps")["accuracy"]
    for eps in (1, 2):
        assert rows[float(eps)] == pytest.approx((fewest > eps).double().mean().item(), abs=1 / 40)
    assert (
        rows[2.0] <= rows[1.0]
        and 0 < rows[1.0] < 1
        and "l0 1 pixel" in str(found) + found.report(tmp_path).read_text()
    )


@pytest.mark.parametrize(
    ("eps", "attacks", "told"),
    [
        ("l0:1.5", "sigma_zero", r"eps l0:1\.5: expected a whole number of pixels in l0, got 1\.5"),
        ("l0:10", "pgd", r"eps l0:10: no attack of this run takes a radius in l0; pgd takes l2, linf"),
        (
            "8/255",
            "sigma_zero",
            r"eps 8/255: no attack of this run takes a radius in linf; sigma_zero takes l0",
        ),
        ("l7:1", "pgd", r"eps: expected VALUE or NORM:VALUE with a number >= 0"),
    ],
)
def test_a_radius_in_l0_is_of_pixels_and_for_attacks_that_count_them(eps, attacks, told):
    with pytest.raises(errors.ConfigError, match=told):
        robust_eval.evaluate(NET, X, Y, attacks=attacks, eps=eps, **QUICK)


def test_the_adversarials_of_an_attack_with_a_substitute_are_found_by_its_plain_name():
    net = linear(classes=3)
    short = {"auto_attack": {"steps": 2, "queries": 5}}
    found = robust_eval.evaluate(
        net, X[:8], net(X[:8]).argmax(1), attacks="auto_attack", fields=short, **QUICK
    )
    name = "auto_attack (3 classes: margin in place of DLR)"
    assert name in set(found.table()["perturbation"])
    assert torch.equal(found.examples("auto_attack").x, found.examples(name).x)


def test_an_estimate_is_marked_and_near_the_number_of_all_images(tmp_path):
    x = torch.rand(300, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    y, places = NET(x).argmax(1), ["perturbation", "norm"]
    asked = {"attacks": ["pgd", "bim"], "eps": "4/255", "fields": {"pgd": {"steps": 5}}, **QUICK}
    found = robust_eval.evaluate(NET, x, y, estimate=0.05, out=tmp_path / "run", **asked)
    table = found.table().set_index(places)
    whole = robust_eval.evaluate(NET, x, y, **asked).table().set_index(places)
    for name in ("pgd", "bim", "worst_case"):
        guessed = table.loc[(name, "linf")]
        assert guessed["estimated_for"] == 300 and guessed["n"] < 200
        assert abs(guessed["accuracy"] - whole.loc[(name, "linf"), "accuracy"]) < 0.08
    assert table.loc["none", "estimated_for"].isna().all() and whole["estimated_for"].isna().all()
    assert "est. " in str(found) and "attacked of 300 images" in found.sentences[0]
    assert robust_eval.load(tmp_path / "run").table().equals(found.table())
    with pytest.raises(errors.ConfigError, match="estimate"):
        robust_eval.evaluate(NET, X, Y, estimate=2, attacks="pgd", **QUICK)
