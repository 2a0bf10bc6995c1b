"""The five cells of the guide, with a checkpoint of timm's and a folder of images, as a notebook runs them."""

import re
from importlib import resources

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

pytest.importorskip("IPython")
timm = pytest.importorskip("timm")

from IPython.core.interactiveshell import InteractiveShell  # noqa: E402
from IPython.utils.capture import capture_output  # noqa: E402
from traitlets.config import Config  # noqa: E402

NETWORK = "test_resnet"
"""The smallest residual network of timm's, in the place of the guide's."""


@pytest.fixture
def at_hand(tmp_path, monkeypatch):
    """Weights that timm's network takes, and images of two classes, beside the notebook."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    save_file(timm.create_model(NETWORK, num_classes=2).state_dict(), "best.safetensors")
    pixels = np.random.default_rng(0).integers(256, size=(6, 40, 50, 3), dtype="uint8")
    for i, image in enumerate(pixels):
        folder = tmp_path / "val" / ("cat", "dog")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{i}.png")
    return tmp_path


def test_a_checkpoint_and_a_folder_of_images_give_a_table_and_a_page_in_five_cells(at_hand):
    text = (resources.files("robust_eval") / "guide" / "evaluate.md").read_text("utf-8")
    found = re.search(r"```py\n(.*?)```", text, re.DOTALL)
    # small images and no checks: seconds instead of a minute
    small = (
        found[1].replace("timm:resnet18", f"timm:{NETWORK}").replace('val/"', 'val/", size=32, checks="off"')
    )
    cells = [cell for cell in small.splitlines() if cell]
    assert len(cells) == 5
    shell, shown = InteractiveShell(config=Config(HistoryManager={"enabled": False})), []
    for cell in cells:
        with capture_output():
            ended = shell.run_cell(cell)
        ended.raise_error()
        shown.append(shell.display_formatter.format(ended.result)[0].get("text/html", ""))
    answer, table = (html for html in shown if "<table" in html)
    assert "worst case" in answer and "best" in answer
    assert all(word in table for word in ("pgd", "linf", "unexamined"))
    assert (at_hand / "report" / "index.html").stat().st_size > 10_000
