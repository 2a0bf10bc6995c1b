"""An image that is left alone is answered by a network that cannot answer a batch of one."""

import pytest
import torch
from torch import nn

from robust_eval import Classifier, Rng, attack
from robust_eval.adaptive import mend
from robust_eval.errors import NoGradientError
from robust_eval.losses import cross_entropy


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(8, 3)

    def forward(self, x):
        return self.fc(x.flatten(1))


class Squeezing(Net):
    def forward(self, x):
        return self.fc(x.flatten(1)[..., None].squeeze())


class Refusing(Net):
    def forward(self, x):
        if len(x) < 2:
            raise ValueError("Expected more than 1 value per channel")
        return super().forward(x)


class Broken(Net):
    def forward(self, x):
        raise RuntimeError("out of ideas")


class NewLeaf(Net):
    def forward(self, x):
        return super().forward(x.detach().requires_grad_())


def images(n=5):
    return torch.rand(n, 2, 2, 2, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", [Squeezing, Refusing])
def test_one_image_is_asked_about_twice_and_counted_once(kind, caplog):
    x, honest, model = images(), Net(), Classifier(kind(), batch_size=2)
    y = honest(x).argmax(1)
    rng = Rng(0).for_batch(5)
    for one in (x[:1], x):  # as a batch, and as what is left of one
        torch.testing.assert_close(model.logits(one, rng=rng.select(slice(len(one)))), honest(one).detach())
    got = model.input_gradient(x, y, cross_entropy, rng=rng).gradient
    torch.testing.assert_close(got, Classifier(honest).input_gradient(x, y, cross_entropy).gradient)
    assert model.ledger["forwards"].tolist() == [3, 2, 2, 2, 2]
    assert sum("cannot answer a batch of one" in record.message for record in caplog.records) == 1
    expected = attack("pgd", steps=5, eps=0.3)(Classifier(honest), x, y, rng=Rng(0))
    torch.testing.assert_close(attack("pgd", steps=5, eps=0.3)(model, x, y, rng=Rng(0)), expected)


def test_a_network_that_fails_anyhow_fails_with_its_own_error():
    with pytest.raises(RuntimeError, match="out of ideas"):
        Classifier(Broken()).logits(images(1))


def test_a_model_that_raises_is_not_taken_for_one_without_gradient():
    with pytest.raises(RuntimeError, match="out of ideas"):
        mend(Broken(), images(), torch.zeros(5, dtype=torch.int64), rng=Rng(0))


@pytest.mark.filterwarnings("ignore")  # torch calls it deprecated
@pytest.mark.parametrize("kind", ["new leaf", "quantised"])
def test_no_gradient_is_one_line(kind):
    net = NewLeaf() if kind == "new leaf" else torch.ao.quantization.quantize_dynamic(Net(), {nn.Linear})
    with pytest.raises(NoGradientError, match="cut off from its input"):
        Classifier(net, accelerate=False).input_gradient(
            images(), torch.zeros(5, dtype=torch.int64), cross_entropy
        )
