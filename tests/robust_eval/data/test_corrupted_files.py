"""Corrupted images from files are measured as they are, of the measured images only, and named by their content."""

import shutil
import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from robust_eval import Rng, corruption
from robust_eval.config.experiment import parse
from robust_eval.config.plan import plan
from robust_eval.corruptions._given import Given, given, given_tables
from robust_eval.data import Examples, imagenet_v2, open_source
from robust_eval.data.corrupted import known_types, open_corrupted
from robust_eval.data.folder import Folder
from robust_eval.data.imagenet_v2 import ImageNetV2, ImageNetV2Threshold
from robust_eval.errors import ConfigError, DataError
from robust_eval.models.source import OwnModel
from robust_eval.registry import describe
from robust_eval.results.cell import Cell, Data

RNG = np.random.default_rng(0)
N = 12
LABELS = np.arange(N) % 5


def pixels(n, channels=3, side=8):
    return RNG.integers(0, 256, (n, side, side, channels), dtype=np.uint8)


def measured(n=N, channels=3, side=8):
    return Examples(
        torch.from_numpy(pixels(n, channels, side)).permute(0, 3, 1, 2), torch.tensor(LABELS[:n]), 5
    )


@pytest.fixture
def arrays(tmp_path):
    """A small set in the layout of CIFAR-10-C."""
    folder = tmp_path / "SMALL-C"
    folder.mkdir()
    for name in ("fog", "gaussian_noise"):
        np.save(folder / f"{name}.npy", pixels(5 * N))
    np.save(folder / "labels.npy", np.tile(LABELS, 5))
    (folder / "README.txt").write_text("other files are left alone")
    np.save(folder / "perlin.npy", np.zeros(3))
    return folder


def blocks(folder, examples, asked=()):
    """Return what the tables of an experiment are read from the folder as."""
    found = open_corrupted(folder)
    made = asked or [corruption("fog", severity=3)]
    return given(found, made, examples)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("severity", [1, 2, 5])
def test_what_is_measured_is_the_block_of_the_file_at_the_measured_positions(arrays, severity, channels):
    content = pixels(5 * N, channels)
    np.save(arrays / "fog.npy", content)
    examples = measured(channels=channels)
    (fog,) = blocks(arrays, examples, [corruption("fog", severity=severity)])
    wanted = torch.from_numpy(content[(severity - 1) * N : severity * N]).permute(0, 3, 1, 2) / 255
    assert torch.equal(fog(examples.pixels(), rng=Rng(7)), wanted)
    some = torch.tensor([5, 0, 11])
    assert torch.equal(fog(examples.pixels(some), rng=Rng(0).rows(some)), wanted[some])


def test_the_first_images_are_taken_and_no_more_is_hashed(arrays):
    (few,) = blocks(arrays, measured(4))
    content = np.load(arrays / "fog.npy")
    content[2 * N + 4] = 0
    np.save(arrays / "fog.npy", content)
    assert blocks(arrays, measured(4)) == (few,)
    assert blocks(arrays, measured(5)) != blocks(arrays, measured(4))
    content[2 * N + 3] = 0
    np.save(arrays / "fog.npy", content)
    assert blocks(arrays, measured(4)) != (few,)


def cell(method, examples):
    network = nn.Sequential(nn.Flatten(), nn.LazyLinear(5))
    return Cell(
        OwnModel("net", network, "test", {"weights": "net"}, "0" * 64), Data("data", examples), method
    )


def test_the_key_is_of_type_severity_and_content_and_never_of_the_place(arrays, tmp_path):
    examples, moved = measured(), tmp_path / "elsewhere" / "RENAMED"
    (here,) = blocks(arrays, examples)
    shutil.copytree(arrays, moved)
    (there,) = blocks(moved, examples)
    assert cell(here, examples).key == cell(there, examples).key
    np.save(moved / "gaussian_noise.npy", np.load(moved / "fog.npy"))
    others = blocks(
        moved, examples, [corruption("gaussian_noise", severity=3), corruption("fog", severity=2)]
    )
    made = [here, *others, corruption("fog", severity=3)]
    assert len({cell(method, examples).key for method in made}) == 4
    assert str(tmp_path) not in str(cell(here, examples).spec)


def test_a_report_calls_it_by_its_type_and_the_files_tell_it_from_one_that_is_made(arrays):
    examples = measured()
    (fog,) = blocks(arrays, examples)
    labels = cell(fog, examples).labels
    made = cell(corruption("fog", severity=3), examples).labels
    assert labels == made | {"params": {"severity": 3, "files": "SMALL-C"}}
    assert (labels["family"], labels["perturbation"], labels["severity"]) == ("corruption", "fog", 3)
    assert str(cell(fog, examples)) == "net · fog severity 3"


def test_memory_does_not_grow_with_the_files(tmp_path):
    n, few = 20000, 20
    np.lib.format.open_memmap(tmp_path / "fog.npy", "w+", np.uint8, (5 * n, 8, 8, 3))
    np.save(tmp_path / "labels.npy", np.zeros(5 * n, np.uint8))
    examples = Examples(torch.zeros(few, 3, 8, 8), torch.zeros(few, dtype=torch.int64), 1)
    tracemalloc.start()
    try:
        (fog,) = blocks(tmp_path, examples)
        fog(examples.pixels(), rng=Rng(0))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3e6 < (tmp_path / "fog.npy").stat().st_size / 6


def save(name, content):
    return lambda folder: np.save(folder / name, content, allow_pickle=True)


def cut(folder):
    path = folder / "fog.npy"
    path.write_bytes(path.read_bytes()[:-100])


def zipped(folder):
    with (folder / "fog.npy").open("wb") as file:
        np.savez(file, images=np.zeros(3))


OTHER_LABELS = np.tile(LABELS, 5)
OTHER_LABELS[2 * N + 1] += 1


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (save("fog.npy", np.zeros((60, 8, 8, 3))), "expected uint8 images [5n,h,w,channels], got float64"),
        (save("fog.npy", pixels(60)[..., 0]), "expected uint8 images [5n,h,w,channels], got uint8 of shape [60, 8, 8]"),
        (save("fog.npy", pixels(59)), "fog.npy: expected 60 images, one for each of labels.npy, got 59"),
        (save("fog.npy", pixels(N)), "fog.npy: expected 60 images, one for each of labels.npy, got 12"),
        (save("fog.npy", pixels(60, 1)), "fog.npy: expected images of 8x8x3 like those measured, got 8x8x1"),
        (save("fog.npy", pixels(60, side=16)), "like those measured, got 16x16x3; measure the set they were made"),
        (save("fog.npy", np.array([{}] * 60)), "fog.npy: expected a whole .npy file of plain numbers"),
        (cut, "fog.npy: expected a whole .npy file of plain numbers"),
        (zipped, "fog.npy: expected a whole .npy file of plain numbers"),
        (save("labels.npy", LABELS), "labels.npy: expected whole numbers [5n], n for each severity, got int64"),
        (save("labels.npy", np.tile(LABELS, 5) / 1), "labels.npy: expected whole numbers [5n]"),
        (save("labels.npy", OTHER_LABELS), "labels.npy: expected the same 12 labels for each of the five severities"),
        (lambda folder: (folder / "labels.npy").unlink(), "SMALL-C: expected labels.npy in it, got none"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_as_published_is_refused_in_one_line(arrays, spoil, words):
    spoil(arrays)
    with pytest.raises(ConfigError) as refused:
        blocks(arrays, measured(), [corruption("fog", severity=s) for s in (1, 2)])
    (line,) = refused.value.problems
    assert words in line
    assert line.startswith("corrupted ")


def test_files_of_other_images_and_too_few_of_them_are_refused(arrays):
    examples = measured()
    swapped = Examples(examples.images, examples.labels.roll(1), 5)
    with pytest.raises(
        ConfigError, match=r"files are of other images: expected label 1 at image 1 .* got 0;"
    ):
        blocks(arrays, swapped)
    more = Examples(torch.zeros(13, 3, 8, 8), torch.arange(13) % 5, 5)
    with pytest.raises(
        ConfigError, match=r"expected at least 13 images of each severity, .* got 12; lower n"
    ):
        blocks(arrays, more)


def test_a_folder_without_a_known_type_is_refused_with_the_names(tmp_path, arrays):
    with pytest.raises(DataError, match=r"got none; known types: brightness, .*zoom_blur$"):
        open_corrupted(tmp_path)
    with pytest.raises(DataError, match="nowhere: expected a folder, got none"):
        open_corrupted(tmp_path / "nowhere")
    with pytest.raises(DataError, match="expected a folder, got a file"):
        open_corrupted(arrays / "fog.npy")
    # severities are 1 to 5
    (tmp_path / "weather" / "fog" / "6").mkdir(parents=True)
    with pytest.raises(DataError, match="severities 1 to 5, got none"):
        open_corrupted(tmp_path)


def test_the_published_names_are_ours():
    published = """
        brightness contrast defocus_blur elastic_transform fog frost gaussian_blur gaussian_noise glass_blur
        impulse_noise jpeg_compression motion_blur pixelate saturate shot_noise snow spatter speckle_noise zoom_blur
    """
    assert set(published.split()) <= set(known_types())
    assert not {"rotation", "shear", "scale"} & set(known_types())


CLASSES = ["n01", "n02", "n10"]


@pytest.fixture
def folders(tmp_path):
    """Clean images in class folders and, as in ImageNet-C, a fog that adds its severity to each pixel."""

    def write(groups=("weather/", "noise/"), name="{}", severities=(1, 3), side=8):
        for i in range(15):
            for label, folder in [("clean", 0)] + [
                (f"C/{group}{kind}/{severity}", severity)
                for group, kind in zip(groups, ("fog", "shot_noise"), strict=True)
                for severity in severities
            ]:
                path = tmp_path / label / CLASSES[i * 2 % 3] / f"{name.format(i)}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.full((side, side, 3), 10 * i + folder, np.uint8)).save(path)
        return tmp_path / "C"

    return write


@pytest.mark.parametrize("groups", [("", ""), ("weather/", "extra/")])
@pytest.mark.parametrize("n", [None, 1, 6])
def test_folders_are_read_in_the_order_of_the_image_folder_that_is_measured(folders, tmp_path, groups, n):
    folder = folders(groups)
    examples = open_source(str(tmp_path / "clean")).test(n)
    assert open_corrupted(folder).severities == {"fog": (1, 3), "shot_noise": (1, 3)}
    (fog,) = blocks(folder, examples)
    got = fog(examples.pixels(), rng=Rng(0))
    assert torch.equal((got * 255).round(), (examples.pixels() * 255).round() + 3)


@pytest.mark.parametrize("n", [15, 3])
def test_folders_are_read_in_the_order_of_the_files_numbers_where_that_is_measured(folders, n):
    folder = folders(name="val_{}")
    labels = torch.tensor([CLASSES.index(CLASSES[i * 2 % 3]) for i in range(n)])
    images = 10 * torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1).expand(n, 3, 8, 8)
    (fog,) = blocks(folder, Examples(images, labels, 3))
    got = fog(images.float() / 255, rng=Rng(0))
    assert torch.equal((got * 255).round(), images.float() + 3)


def test_the_key_of_folders_is_of_their_content_and_groups_are_only_places(folders, tmp_path, monkeypatch):
    from robust_eval.data import _corrupted_folders

    folder = folders()
    examples = open_source(str(tmp_path / "clean")).test(None)
    (before,) = blocks(folder, examples)
    shutil.move(folder / "weather" / "fog", folder / "fog")
    assert blocks(folder, examples) == (before,)
    for large, noticed in ((1 << 30, True), (0, False)):
        monkeypatch.setattr(_corrupted_folders, "LARGE", large)
        (before,) = blocks(folder, examples)
        path = folder / "fog" / "3" / "n01" / "0.png"
        content = path.read_bytes()
        path.write_bytes(content[:-1] + b"?")
        assert (blocks(folder, examples) != (before,)) == noticed
        path.write_bytes(content + b"?")
        assert blocks(folder, examples) != (before,)
        path.write_bytes(content)


def test_folders_that_differ_from_each_other_or_from_what_is_measured_are_refused(folders, tmp_path):
    folder = folders(("", ""))
    examples = open_source(str(tmp_path / "clean")).test(None)
    file = folder / "fog" / "3" / "n01" / "0.png"
    file.rename(file.with_name("00.png"))
    with pytest.raises(
        ConfigError, match=r"files of the same names as in .*fog/1, got n01/00.png for n01/0.png"
    ):
        blocks(folder, examples)
    file.with_name("00.png").unlink()
    with pytest.raises(ConfigError, match=r"3: expected 15 images as in .*fog/1, got 14; unpack the archive"):
        blocks(folder, examples)
    shutil.rmtree(folder / "fog" / "3")
    (folder / "fog" / "3").mkdir()
    with pytest.raises(ConfigError, match="expected one sub-folder of images per class, got no image"):
        blocks(folder, examples)
    large = Examples(torch.zeros(15, 3, 16, 16), examples.labels, 3)
    with pytest.raises(ConfigError, match=r"expected images of 3x16x16 like those measured, got 3x8x8"):
        blocks(folder, large, [corruption("shot_noise", severity=1)])
    other = Examples(examples.images, 2 - examples.labels, 3)
    with pytest.raises(ConfigError, match="the corrupted files are of other images"):
        blocks(folder, other, [corruption("shot_noise", severity=1)])


def test_a_wrong_size_is_one_line_for_all_blocks(folders, arrays):
    large = Examples(
        torch.zeros(15, 3, 16, 16), open_source(str(folders().parent / "clean")).test(None).labels, 3
    )
    found = open_corrupted(arrays.parent / "C")
    with pytest.raises(ConfigError) as refused:
        given(found, [corruption("fog", severity=1), corruption("fog", severity=3)], large)
    (line,) = refused.value.problems
    assert (
        "fog/1 and 1 other: expected images of 3x16x16 like those measured, got 3x8x8; measure them" in line
    )
    np.save(arrays / "fog.npy", pixels(60).transpose(0, 3, 1, 2))
    with pytest.raises(ConfigError, match=r"got 3x8x8; the channels go last: images.transpose\(0, 2, 3, 1\)"):
        blocks(arrays, measured())


def test_class_folders_of_other_names_are_refused(folders, tmp_path):
    folder = folders(("", ""))
    examples = open_source(str(tmp_path / "clean")).test(6)
    for kind in ("fog", "shot_noise"):
        for severity in ("1", "3"):
            (folder / kind / severity / "n02").rename(folder / kind / severity / "n05")
    with pytest.raises(ConfigError, match=r"of other images: expected class folders .* got n05 for n02;"):
        blocks(folder, examples)


def test_a_damaged_image_of_an_archive_is_to_be_unpacked_again(folders, tmp_path):
    folder = folders(("", ""))
    examples = open_source(str(tmp_path / "clean")).test(None)
    for path in (folder / "fog" / "3").rglob("*.png"):
        path.write_bytes(b"?")
    with pytest.raises(ConfigError, match=r"png is no image that can be read; unpack the archive again"):
        blocks(folder, examples)


def test_tables_take_all_that_is_there_unless_they_narrow_it(folders, arrays):
    found = open_corrupted(folders(("", "")))
    assert given_tables(found, []) == [
        {"name": "fog", "severity": [1, 3]},
        {"name": "shot_noise", "severity": [1, 3]},
    ]
    assert given_tables(open_corrupted(arrays), ["fog"]) == [{"name": "fog", "severity": [1, 2, 3, 4, 5]}]
    rotation = {"name": "rotation", "degrees": 20}
    assert given_tables(found, [{"name": "fog", "severity": 3}, rotation]) == [
        {"name": "fog", "severity": 3},
        rotation,
    ]
    with pytest.raises(ConfigError) as refused:
        given_tables(found, ["snow", {"name": "fog", "severity": [1, 2], "side": 32}])
    snow, side, severity = refused.value.problems
    assert "'snow': expected files of it in" in snow
    assert "got fog, shot_noise; leave it out" in snow
    assert "'fog': side: expected nothing but a severity, since it is read from" in side
    assert "'fog': severity: expected one of 1, 3, of which there are files" in severity
    assert "got 2" in severity


@pytest.fixture
def tables(arrays, tmp_path):
    """An experiment on a file whose images have the labels of the corrupted ones."""
    np.savez(tmp_path / "data.npz", images=pixels(N), labels=LABELS)
    (tmp_path / "net.py").write_text(
        "import torch\n\ndef make():\n    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 5))\n"
    )
    return {
        "data": {"name": "data.npz", "corrupted": "SMALL-C"},
        "model": [{"architecture": "net.py:make", "name": "net"}],
    }


def corrupted(cells):
    return [cell for cell in cells if cell.family == "corruption"]


def test_an_experiment_reads_its_corruptions_from_the_folder_it_names(tables, tmp_path, monkeypatch):
    experiment = parse(tables, where="test", folder=tmp_path)
    cells = corrupted(plan(experiment))
    assert {type(cell.perturbation) for cell in cells} == {Given}
    assert [(cell.labels["perturbation"], cell.labels["severity"]) for cell in cells] == [
        (name, severity) for name in ("fog", "gaussian_noise") for severity in (1, 2, 3, 4, 5)
    ]
    # the copy in the run folder is of the same cells, from anywhere
    again = parse(experiment.tables(), where="test", folder=tmp_path / "other")
    assert {cell.perturbation for cell in corrupted(plan(again))} == {cell.perturbation for cell in cells}

    narrowed = tables | {"corruption": [{"name": "fog", "severity": [4]}, {"name": "scale", "content": 0.8}]}
    fog, scale = corrupted(plan(parse(narrowed, where="test", folder=tmp_path)))
    assert fog.perturbation == cells[3].perturbation
    assert describe(scale.perturbation).name == "scale"


def test_an_experiment_tells_what_is_wrong_with_its_corrupted_files_with_all_other_problems(tables, tmp_path):
    wrong = tables | {
        "corruption": [{"name": "fog", "severity": 6}, "snow", "fogg"],
        "attack": ["pdg"],
    }
    with pytest.raises(ConfigError) as refused:
        parse(wrong, where="test", folder=tmp_path)
    assert any("'snow': expected files of it" in line for line in refused.value.problems)
    assert any("unknown attack 'pdg'" in line for line in refused.value.problems)
    wrong["corruption"] = [{"name": "fog", "severity": 6}, "fogg"]
    with pytest.raises(ConfigError) as refused:
        parse(wrong, where="test", folder=tmp_path)
    assert any("severity" in line and "5, got 6" in line for line in refused.value.problems)
    assert any("unknown corruption 'fogg'" in line for line in refused.value.problems)
    gone = {**tables, "data": {**tables["data"], "corrupted": "gone"}}
    with pytest.raises(ConfigError, match="gone: expected a folder, got none"):
        parse(gone, where="test", folder=tmp_path)


@pytest.fixture
def numbered(tmp_path, monkeypatch):
    """ImageNet-v2 with twelve classes of two images; the red of each image tells its class."""
    monkeypatch.setattr(imagenet_v2, "CLASSES", 12)
    monkeypatch.setattr(imagenet_v2, "PER_CLASS", 2)

    def write(name, classes="{}"):
        for label in range(12):
            folder = tmp_path / name / classes.format(label)
            folder.mkdir(parents=True)
            for i in range(2):
                Image.fromarray(np.full((40, 50, 3), 20 * label, np.uint8)).save(folder / f"{i}.png")
        return str(tmp_path / name)

    return write


def test_an_unpacked_imagenet_v2_given_by_its_path_has_its_classes_in_the_order_of_numbers(numbered):
    matched = open_source(numbered("imagenetv2-matched-frequency-format-val"), size=32)
    test = matched.test(None)
    assert isinstance(matched, ImageNetV2)
    assert test.shape == (3, 32, 32)
    assert torch.equal(test.images[:, 0, 0, 0].long(), 20 * test.labels)
    threshold = open_source(numbered("imagenetv2-threshold0.7-format-val"))
    assert (type(threshold), threshold.test(1).shape) == (ImageNetV2Threshold, (3, 224, 224))


def test_other_folders_are_read_as_image_folders(numbered):
    assert isinstance(open_source(numbered("numbers")), Folder)
    assert isinstance(open_source(numbered("imagenetv2-by-id", "n{:03}")), Folder)
