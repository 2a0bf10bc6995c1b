import logging

import numpy as np
import pytest
import torch
from torch import nn

from robust_eval import Classifier, Rng, attack, corruption
from robust_eval.errors import ConfigError, DataError

N, SIDE, CLASSES = 4, 8, 5
PGD, NOISE = attack("pgd", eps="64/255", steps=3), corruption("gaussian_noise")


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * (SIDE - 2) ** 2, CLASSES)).eval()


NET = network()
X = torch.rand(N, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
with torch.no_grad():
    Y = NET(X).argmax(1)  # so that every image is attacked
EXPECTED = PGD(Classifier(NET), X, Y, rng=Rng(0))
FOGGED = NOISE(X, rng=Rng(0))


def one_line(error, *words):
    message = str(error.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_the_attack_moves_every_image():
    assert ((EXPECTED - X).abs().flatten(1).amax(1) > 0).all()


@pytest.mark.parametrize("model", [NET, Classifier(NET)], ids=["bare", "classifier"])
@pytest.mark.parametrize("rng", [0, np.int64(0), np.uint8(0), Rng(0), Rng(np.int32(0))], ids=repr)
def test_a_bare_network_and_a_seed_do_what_a_classifier_and_a_stream_do(model, rng):
    assert PGD(model, X, Y, rng=rng).equal(EXPECTED)
    assert NOISE(X, rng=rng).equal(FOGGED)


@pytest.mark.parametrize(
    "given",
    [
        X.numpy(),
        np.asfortranarray(X.numpy()),
        X.numpy().astype(">f4"),
        np.flip(np.flip(X.numpy(), 3).copy(), 3),
        X.clone().requires_grad_(),
    ],
    ids=["array", "fortran", "big-endian", "negative strides", "requires grad"],
)
def test_images_are_taken_as_a_tensor_and_as_an_array(given):
    before = given.detach().clone() if isinstance(given, torch.Tensor) else given.copy()
    made = PGD(NET, given, Y, rng=0)
    assert made.equal(EXPECTED) and not made.requires_grad
    assert NOISE(given, rng=0).equal(FOGGED)
    assert Classifier(NET).logits(given).equal(Classifier(NET).logits(X))
    assert (before == given).all()


def test_an_array_that_must_not_be_written_to_is_taken():
    given = X.numpy().copy()
    given.setflags(write=False)
    assert PGD(NET, given, Y, rng=0).equal(EXPECTED)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.longdouble])
def test_arrays_of_other_floats_are_taken_also_after_those_of_float32(dtype):
    model = Classifier(NET)
    model.logits(X)
    made = PGD(model, X.numpy().astype(dtype), Y, rng=0)
    assert made.dtype == (torch.float16 if dtype == np.float16 else torch.float64)
    assert made.sub(EXPECTED.to(made)).abs().max() < 2e-3 or dtype == np.float16


@pytest.mark.parametrize(
    "labels",
    [
        Y.tolist(),
        tuple(Y.tolist()),
        Y.numpy(),
        Y.int(),
        Y.to(torch.uint8),
        Y.numpy().astype(np.uint16),
        list(Y),
    ],
    ids=["list", "tuple", "array", "int32", "uint8", "uint16 array", "list of tensors"],
)
def test_labels_are_taken_in_any_type_of_whole_numbers(labels):
    assert PGD(NET, X, labels, rng=0).equal(EXPECTED)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((X * 255).byte(), ["got uint8", "x / 255"]),
        ((X * 255).byte().numpy(), ["got uint8", "x / 255"]),
        ((X * 255).long(), ["got int64", "x / 255"]),
        (X > 0.5, ["got bool", "x.float()"]),
        (X[0], ["got [3,8,8]", "x[None]"]),
        (X[:, 0], ["got [4,8,8]", "x[:, None]"]),
        (X.flatten(1), ["expected a batch [n,c,h,w], got [4,192]"]),
        (list(X), ["got list", "torch.stack(x)"]),
        (None, ["got NoneType"]),
        (np.array([None]), ["array of object"]),
    ],
)
def test_what_is_no_batch_of_images_is_told_everywhere(given, words):
    for ask in (
        lambda: PGD(NET, given, Y, rng=0),
        lambda: NOISE(given, rng=0),
        lambda: Classifier(NET).logits(given),
        lambda: Classifier(NET).input_gradient(given, Y, lambda logits, y: logits[:, 0]),
        lambda: Classifier(NET).jacobian(given, Y[:, None]),
    ):
        with pytest.raises(DataError) as error:
            ask()
        one_line(error, "images: expected", *words)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (X * 255, ["expected pixels in [0, 1]", "give x / 255"]),
        (X - 1, ["expected pixels in [0, 1]", "before normalisation"]),
        (X * float("nan"), ["expected pixels in [0, 1], got values from nan"]),
        (X.permute(0, 2, 3, 1), ["got [4,8,8,3]", "x.permute(0, 3, 1, 2)"]),
        (X.permute(0, 2, 3, 1).numpy(), ["got [4,8,8,3]", "x.transpose(0, 3, 1, 2)"]),
    ],
)
def test_pixels_and_channels_that_are_elsewhere_are_told(given, words):
    for ask in (lambda: PGD(NET, given, Y, rng=0), lambda: NOISE(given, rng=0)):
        with pytest.raises(DataError) as error:
            ask()
        one_line(error, *words)


@pytest.mark.parametrize("shape", [(2, 7, 3, 3), (2, 9, 1, 1), (2, 3, 32, 3), (2, 1, 1, 12)])
def test_small_images_are_not_taken_for_such_whose_channels_come_last(shape):
    assert NOISE(torch.rand(shape), rng=0).shape == shape


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (Y[:2], ["one for each of 4 images, got 2"]),
        (Y + CLASSES, ["expected 0..4, the classes of the model, got"]),
        (Y - CLASSES, ["expected 0..4, the classes of the model, got -"]),
        (torch.eye(CLASSES)[Y], ["got [4,5], as one-hot labels are", "y.argmax(1)"]),
        (Y[:, None], ["got [4,1]", "y[:, 0]"]),
        (Y.float(), ["got float32", "y.long()"]),
        (Y.double().numpy(), ["got float64", "np.asarray(y, dtype=int)"]),
        (Y > 1, ["got bool", "y.long()"]),
        (3, ["one for each image, got []"]),
        (None, ["got NoneType"]),
        (["cat"] * N, ["got list"]),
        ([[1], [1, 2], [3], [4]], ["got list"]),
    ],
)
def test_labels_that_are_none_are_told(labels, words):
    with pytest.raises(DataError) as error:
        PGD(NET, X, labels, rng=0)
    one_line(error, "labels: expected", *words)


@pytest.mark.parametrize(
    ("rng", "words"),
    [
        (True, ["got True"]),
        (0.0, ["got 0.0"]),
        (None, ["got None"]),
        ("0", ["got '0'"]),
        (np.random.default_rng(0), ["got a Generator of numpy", "anew at each call"]),
        (torch.Generator(), ["got a Generator of torch", "anew at each call"]),
        (torch.tensor(0), ["got Tensor"]),
    ],
)
def test_a_seed_that_is_none_is_told(rng, words):
    for ask in (lambda: PGD(NET, X, Y, rng=rng), lambda: NOISE(X, rng=rng), lambda: Rng(rng)):
        with pytest.raises(ConfigError) as error:
            ask()
        one_line(error, "rng: expected Rng(0)", *words)


def test_a_missing_rng_is_told_with_what_to_write():
    for ask in (lambda: PGD(NET, X, Y), lambda: PGD(NET, X, Y, Rng(0)), lambda: NOISE(X)):
        with pytest.raises(TypeError) as error:
            ask()
        one_line(error, "rng=Rng(0)")


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (None, ["got NoneType"]),
        (NET.state_dict(), ["as weights are", "load_state_dict"]),
        (NET.forward, ["got method", "forward of an nn.Module"]),
        (nn.Linear, ["the class Linear"]),
        ("m.pt", ["'m.pt'", "load it"]),
    ],
    ids=["none", "weights", "function", "class", "path"],
)
def test_what_is_no_network_is_told(model, words):
    for ask in (lambda: PGD(model, X, Y, rng=0), lambda: Classifier(model)):
        with pytest.raises(ConfigError) as error:
            ask()
        one_line(error, "model: expected a network (torch.nn.Module)", *words)


def test_images_that_a_network_was_not_made_for_are_told_with_its_own_words():
    with pytest.raises(DataError) as error:
        PGD(NET, X[:, :1], Y, rng=0)
    one_line(error, "images [4,1,8,8]", "to have 3 channels", "give images it was made for")
    assert isinstance(error.value.__cause__, RuntimeError)


def test_an_error_of_the_network_itself_stays_as_it_is():
    class Failing(nn.Module):
        def forward(self, x):
            raise RuntimeError("no weights yet")

    with pytest.raises(RuntimeError, match=r"^no weights yet$"):
        PGD(Failing().eval(), X, Y, rng=0)


@pytest.mark.parametrize("size", [(3, 16, 16), (3, 2, 2), (4, 8, 8)])
def test_images_of_another_size_are_told(size):
    with pytest.raises(DataError) as error:
        PGD(NET, torch.rand(N, *size), Y, rng=0)
    one_line(error, "give images it was made for")


def test_a_model_of_one_logit_is_told():
    with pytest.raises(DataError) as error:
        PGD(nn.Sequential(NET, nn.Linear(CLASSES, 1)).eval(), X, [0] * N, rng=0)
    one_line(error, "2 classes or more, got 1", "torch.cat([-z, z], 1)")


@pytest.mark.parametrize("eps", [8, 8.0, "8", 1.01])
def test_a_radius_beyond_all_pixels_is_told_before_any_image_is_seen(eps):
    for name in ("pgd", "fgsm", "apgd_ce", "square"):
        with pytest.raises(ConfigError) as error:
            attack(name, eps=eps)
        one_line(error, f"attack '{name}': eps: expected a linf radius in [0, 1]", "/255'?")


@pytest.mark.parametrize("eps", [-0.1, float("nan"), float("inf"), True, "eight", None])
def test_a_radius_that_is_none_is_told(eps):
    with pytest.raises(ConfigError) as error:
        attack("pgd", eps=eps)
    one_line(error, "attack 'pgd': eps: expected")


@pytest.mark.parametrize("eps", ["64/255", 64 / 255, np.float64(64 / 255), 1])
def test_a_radius_is_taken_as_a_fraction_or_a_number(eps):
    assert attack("pgd", eps=eps).threat.eps == pytest.approx(1 if eps == 1 else 64 / 255)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: attack("pdg"), ["did you mean 'pgd'?"]),
        (lambda: attack("pgd", epsilon=0.1), ["unknown field 'epsilon'", "did you mean 'eps'?"]),
        (lambda: attack("pgd", steps=0), ["steps: expected >= 1, got 0"]),
        (lambda: corruption("fgo"), ["did you mean 'fog'?"]),
        (lambda: corruption("fog", sever=3), ["did you mean 'severity'?"]),
        (lambda: corruption("fog", severity=9), ["severity: expected <= 5, got 9"]),
        (lambda: corruption("fog", severity=True), ["severity: expected a whole number, got True"]),
    ],
)
def test_names_and_parameters_that_are_none_are_told(build, words):
    with pytest.raises(ConfigError) as error:
        build()
    one_line(error, *words)


def test_a_severity_in_words_is_the_number():
    assert corruption("fog", severity="3") == corruption("fog", severity=3)


def test_a_half_network_is_attacked():
    made = PGD(network().half(), X, Y, rng=0)
    assert made.dtype == torch.float32 and not made.equal(X)


def test_no_images_with_an_empty_list_of_labels_are_none():
    assert PGD(NET, X[:0], [], rng=0).shape == (0, 3, SIDE, SIDE)


def test_a_network_in_training_mode_is_asked_in_eval_mode_put_back_and_spoken_of_once(caplog):
    net = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.9), network())
    quiet, model = nn.Sequential(NET), Classifier(net, mean=0.0, std=1.0)
    with caplog.at_level(logging.WARNING, "robust_eval"):
        made = [PGD(model, X, Y, rng=0), PGD(model, X, Y, rng=0), PGD(Classifier(net), X, Y, rng=0)]
        PGD(quiet, X, Y, rng=0)  # where the mode makes no difference
    assert [record.getMessage() for record in caplog.records] == [
        "Sequential is in training mode: it is asked in eval mode, and put back after each call"
    ]
    assert made[0].equal(made[1])
    assert net.training and net[1].training and not net[2].training and quiet.training
    assert net[0].running_mean.equal(torch.zeros(3))
