"""The gallery shows what attacks made of images, and nothing that a record merely claims to have kept."""

import base64
import io
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import reports
from reports.gallery_sheet import gallery_png
from reports.picture_bodies import READABLE, Picture
from reports.pictures import decoded
from reports.sections.gallery import gallery
from robust_eval.findings import Measurement
from robust_eval.identity import content_key
from robust_eval.results.difference import difference
from robust_eval.results.record import Record
from robust_eval.results.store import Store
from robust_eval.results.thumbnail import thumbnail

N = 4
EPS = 8 / 255
GREY = torch.full((3, 32, 32), 0.5)
CLEAN = thumbnail(GREY)
UP = difference(torch.full((3, 32, 32), EPS), EPS)


def claimed(width: int, height: int) -> str:
    """Return a PNG that says it is of this size."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in ((b"IHDR", head), (b"IDAT", zlib.compress(b"\0")), (b"IEND", b""))
    )
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + chunks).decode()


def clean_seen(index: int = 0, **fields: Any) -> dict[str, Any]:
    seen = {"index": index, "label": "cat", "prediction": "cat", "confidence": 0.9, "picture": CLEAN}
    return {**seen, **fields}


def attack_seen(index: int = 0, **fields: Any) -> dict[str, Any]:
    seen = {"index": index, "label": "cat", "prediction": "dog", "confidence": 0.75, "distance": EPS}
    seen |= {"clean_prediction": "cat", "clean_confidence": 0.9, "attacked": True, "broken": True}
    return {**seen, "scale": EPS, "difference": UP, **fields}


def record(
    pictures: Any,
    *,
    family: str = "attack",
    name: str = "pgd",
    norm: str = "linf",
    eps: float | None = EPS,
    model: str = "net",
    defense: str = "none",
    access: str = "none",
    data: str = "shapes",
    train_seed: int = 0,
    score: tuple[float, ...] = (0, 1, 1, 1),
    distance: float = EPS,
    radius: float | None = None,
) -> Record:
    clean = family == "clean"
    norm, eps, name = ("none", None, "none") if clean else (norm, eps, name)
    params = {} if clean else {"eps": eps, "norm": norm}
    spec = {"model": [model, train_seed], "data": {"fingerprint": data, "n": N}, "defense": defense}
    spec |= {"perturbation": [family, name, params], "access": access}
    rows = pd.DataFrame({"index": range(N), "label": 0, "prediction": 0, "clean_score": 1.0})
    rows = rows.assign(score=np.array(score, dtype=float), distance=distance, attacked=True)
    labels = {
        "model": model,
        "arch": "resnet",
        "regularizer": "erm",
        "train_seed": train_seed,
        "seed": 0,
        "defense": defense,
        "defense_params": {},
        "access": access,
        "data": data,
        "family": family,
        "perturbation": name,
        "params": params,
        "norm": norm,
        "eps": eps,
        "severity": None,
        "model_key": model,
    }
    summary = Measurement("accuracy", 0.5, 0.1, 0.9, N, radius if eps is None else None)
    provenance = {"seconds": 1.0} | ({} if pictures is None else {"pictures": pictures})
    return Record(content_key(spec), spec, labels, (summary,), (), provenance, rows)


def clean(*seen: dict[str, Any], **fields: Any) -> Record:
    return record(list(seen or (clean_seen(),)), family="clean", **fields)


def saved(folder: Path, *records: Record) -> Path:
    for item in records:
        Store(folder).write(item)
    return folder


def albums(folder: Path, *records: Record) -> Any:
    return gallery(reports.load([saved(folder, *records)]).entries)[0].albums


def written(folder: Path, *records: Record) -> str:
    reports.write([saved(folder / "run", *records)], folder / "out")
    return (folder / "out" / "index.html").read_text()


def test_a_row_has_the_clean_image_the_adversarial_and_the_difference_with_the_answers(tmp_path):
    (album,) = albums(tmp_path, clean(), record([attack_seen()]))
    (exhibit,) = album.exhibits
    (shot,) = exhibit.shots
    assert (exhibit.told, exhibit.answer) == ("image 0, class cat", "cat (90 %)")
    assert (shot.answer, shot.verdict, shot.told, shot.magnified) == (
        "dog (75 %)",
        "broken",
        "broken",
        "×16",
    )
    assert exhibit.clean.told == "clean image 0, class cat: net says cat (90 %)"
    assert shot.adversarial.told == "adversarial image 0, pgd linf 8/255 on net: dog (75 %), broken"
    assert shot.difference.told == "difference ×16 of image 0, pgd linf 8/255 on net"
    assert decoded(shot.adversarial.text).getextrema() == ((136, 136),) * 3


def test_first_stands_the_attack_of_each_norm_that_broke_the_most_at_the_least_radius(tmp_path):
    (album,) = albums(
        tmp_path,
        clean(),
        record([attack_seen()], name="fgsm", score=(0, 1, 1, 1)),
        record([attack_seen()], name="pgd", score=(0, 0, 0, 1)),
        record([attack_seen()], name="pgd", eps=2 * EPS, score=(0, 0, 0, 1)),
        record([attack_seen()], name="pgd", norm="l2", eps=0.5, score=(0, 1, 1, 1)),
    )
    assert album.first == 2
    assert album.attacks == ("pgd linf 8/255", "pgd l2 0.5", "fgsm linf 8/255", "pgd linf 16/255")


def test_images_that_no_attack_of_a_norm_broke_are_named(tmp_path):
    held = {"broken": False, "prediction": "cat"}
    (album,) = albums(
        tmp_path,
        clean(*map(clean_seen, range(3))),
        record([attack_seen(0), attack_seen(1, **held), attack_seen(2, attacked=False)], name="fgsm"),
        record([attack_seen(0, **held), attack_seen(1, **held)], name="pgd", score=(0, 1, 1, 1)),
        record([attack_seen(0)], name="pgd", norm="l2", eps=0.5, score=(0, 1, 1, 1)),
    )
    assert album.held == (
        "No linf attack broke image 1.",
        "Each of the images that were attacked was broken in l2.",
    )


def test_an_attack_that_kept_fewer_pictures_still_counts_by_its_rows(tmp_path):
    held = {"broken": False, "prediction": "cat"}
    (album,) = albums(
        tmp_path,
        record([attack_seen(0, **held), attack_seen(1, **held)], name="fgsm", score=(1, 1, 1, 1)),
        record(None, name="pgd", score=(1, 0, 1, 1)),
    )
    assert album.held == ("No linf attack broke image 0.",)


def test_the_smallest_perturbation_breaks_within_the_radius_that_was_asked_for(tmp_path):
    near, far = attack_seen(0, distance=0.25), attack_seen(1, distance=1.5)
    (album,) = albums(tmp_path, record([near, far], name="cw", norm="l2", eps=None, radius=1.0, distance=1.5))
    told = [(exhibit.shots[0].verdict, exhibit.shots[0].told) for exhibit in album.exhibits]
    assert told == [("broken", "broken at 0.25"), ("held", "held within 1, broken at 1.5")]
    assert album.held == ("No l2 attack broke image 1.",)


def test_an_image_that_is_wrong_already_is_neither_held_nor_broken(tmp_path):
    wrong = attack_seen(0, clean_prediction="dog", broken=False)
    (album,) = albums(tmp_path, record([wrong]))
    assert (album.exhibits[0].shots[0].verdict, album.exhibits[0].shots[0].told) == (
        "untouched",
        "wrong already",
    )
    assert album.held == ()


def test_of_a_model_with_several_seeds_the_first_is_shown(tmp_path):
    seen = [
        record([attack_seen(prediction=f"seed {seed}")], train_seed=seed, model=f"net-{seed}")
        for seed in (1, 0)
    ]
    found = albums(tmp_path, *seen)
    assert len({album.model for album in found}) == len(found)
    same = reports.load([tmp_path]).entries
    one = gallery([type(e)(e.record, e.run, {**e.labels, "model": "net"}) for e in same])[0].albums
    assert [album.exhibits[0].shots[0].answer for album in one] == ["seed 0 (75 %)"]


def test_data_sets_stand_one_after_the_other_with_their_own_clean_images(tmp_path):
    white = thumbnail(torch.ones(3, 32, 32))
    found = albums(
        tmp_path,
        clean(data="b"),
        record([attack_seen()], data="b"),
        clean(clean_seen(picture=white), data="a"),
        record([attack_seen()], data="a"),
    )
    assert [(album.data, album.exhibits[0].clean.text) for album in found] == [("a", white), ("b", CLEAN)]


def test_a_page_that_would_be_too_large_leaves_out_other_attacks_then_images(tmp_path):
    attacks = [record([attack_seen(i) for i in range(4)], name=name) for name in ("a", "b", "c")]
    entries = reports.load([saved(tmp_path, clean(*map(clean_seen, range(4))), *attacks)]).entries

    def shape(most):
        found, whole = gallery(entries, most)
        return len(found.albums[0].attacks), len(found.albums[0].exhibits), whole

    assert shape(1 << 20) == (3, 4, True)
    assert shape(12_000) == (1, 4, False)
    assert shape(0) == (1, 1, False)


def test_without_pictures_the_report_says_nothing_of_a_gallery(tmp_path):
    page = written(tmp_path, clean(), record(None))
    assert "Gallery" not in page
    assert "gallery" not in (tmp_path / "out" / "table.md").read_text()
    assert not (tmp_path / "out" / "gallery.png").exists()


def test_the_page_shows_each_picture_at_a_whole_multiple_of_at_least_96_pixels(tmp_path):
    page = written(tmp_path, clean(), record([attack_seen()]))
    images = re.findall(
        r'<img src="data:image/png;base64,[^"]+" width="(\d+)" height="(\d+)" alt="(\w+)', page
    )
    assert images == [("96", "96", word) for word in ("clean", "adversarial", "difference")]
    for side in range(1, 97):
        times = Picture("", "", side, 1).times
        assert side * times >= READABLE > side * (times - 1)


@pytest.mark.parametrize(("models", "folded"), [(3, False), (4, True)])
def test_more_than_three_models_are_folded_one_by_one(tmp_path, models, folded):
    names = [f"net{i}" for i in range(models)]
    page = written(tmp_path, clean(), *(record([attack_seen()], model=name) for name in names))
    # the first one is open, so that a reader sees what the others hold
    assert (
        len(re.findall(r'<details class="album"( open)?><summary>net\d</summary>', page)) == folded * models
    )
    assert page.count('<details class="album" open>') == folded
    assert [f'<section class="album"><h3>{name}</h3>' in page for name in names] == [not folded] * models
    for tag in ("details", "section", "table", "tr", "td", "th"):
        assert len(re.findall(rf"<{tag}\b", page)) == page.count(f"</{tag}>")


def test_markdown_names_the_file_and_latex_and_provenance_say_nothing(tmp_path):
    page = written(tmp_path, clean(), record([attack_seen()]))
    out = tmp_path / "out"
    assert "](gallery.png)" in (out / "table.md").read_text()
    assert "gallery" not in (out / "table.tex").read_text().lower()
    assert "pictures" not in page[page.index("<h2>Provenance</h2>") :]
    assert page.count(UP) == 1


def test_the_file_has_the_pictures_in_their_places_and_does_not_outlive_them(tmp_path):
    red = clean_seen(picture=thumbnail(torch.tensor([1.0, 0, 0]).view(3, 1, 1).expand(3, 32, 32)))
    found = albums(tmp_path / "one", clean(red), record([attack_seen()]))
    sheet = np.asarray(Image.open(io.BytesIO(gallery_png(found))))
    assert (sheet == [255, 0, 0]).all(2).sum() == 96 * 96
    assert gallery_png(found) == gallery_png(found)
    reports.write([tmp_path / "one"], tmp_path / "out")
    assert (tmp_path / "out" / "gallery.png").exists()
    reports.write([saved(tmp_path / "two", clean(), record(None))], tmp_path / "out")
    assert not (tmp_path / "out" / "gallery.png").exists()


def test_many_models_fit_one_file_that_says_how_many_are_left_out(tmp_path):
    (album,) = albums(tmp_path, clean(), record([attack_seen()]))
    few, many = (Image.open(io.BytesIO(gallery_png([album] * n))).size for n in (12, 400))
    assert many[0] == few[0] and few[1] < many[1] < few[1] + 40


HOSTILE = '<script>alert("x")</script> \\input{x} =cmd()\n' + "x" * 300


def test_names_cannot_inject_markup_nor_stretch_the_page(tmp_path):
    seen = attack_seen(label=HOSTILE, clean_prediction=HOSTILE, prediction=HOSTILE + "!")
    page = written(
        tmp_path,
        clean(clean_seen(label=HOSTILE, prediction=HOSTILE), model=HOSTILE),
        record([seen], model=HOSTILE, name=HOSTILE),
    )
    assert HOSTILE not in page
    (gallery_part,) = re.findall(r'<section class="album">.*?</section>', page, re.S)
    assert "&lt;script&gt;" in gallery_part and "<script" not in gallery_part
    alts = re.findall(r'alt="([^"]*)"', gallery_part)
    assert len(alts) == 3 and all(len(alt) < 400 for alt in alts)
    assert (tmp_path / "out" / "gallery.png").stat().st_size > 0


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param("not a list", id="text"),
        pytest.param({"0": attack_seen()}, id="a mapping"),
        pytest.param([None, 1, "x", [], {}], id="other things"),
        pytest.param([attack_seen(-1)], id="negative index"),
        pytest.param([attack_seen(confidence="<b>")], id="words as confidence"),
        pytest.param([attack_seen(scale=-1.0)], id="negative scale"),
        pytest.param([attack_seen(broken="yes")], id="words as truth"),
        pytest.param([None] * 50_000, id="very many"),
    ],
)
def test_images_of_another_form_are_not_shown(tmp_path, wrong):
    assert albums(tmp_path, clean(), record(wrong)) == ()


def test_a_confidence_that_is_no_number_is_not_shown(tmp_path):
    made = record([attack_seen(0, confidence=float("nan")), attack_seen(1)])
    entries = [*reports.load([saved(tmp_path, record(None))]).entries]
    entry = type(entries[0])(made, "run", made.labels)
    (album,) = gallery([entry])[0].albums
    assert [exhibit.told for exhibit in album.exhibits] == ["image 1, class cat"]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('"><script>alert(1)</script>', id="markup"),
        pytest.param(UP[:60], id="cut off"),
        pytest.param(CLEAN.replace("A", "%", 1), id="another alphabet"),
        pytest.param("AAAA", id="no PNG"),
        pytest.param(claimed(100_000, 100_000), id="a huge size"),
        pytest.param(claimed(2**31 - 1, 2**31 - 1), id="the hugest size"),
        pytest.param(claimed(0, 0), id="no size"),
        pytest.param(claimed(97, 1), id="too large"),
    ],
)
def test_what_is_no_small_png_is_not_shown_and_the_answers_stay(tmp_path, text):
    (album,) = found = albums(tmp_path, clean(), record([attack_seen(difference=text)]))
    (shot,) = album.exhibits[0].shots
    assert (shot.adversarial, shot.difference, shot.magnified) == (None, None, "")
    assert shot.answer == "dog (75 %)" and gallery_png(found)
    assert (
        albums(tmp_path / "two", clean(clean_seen(picture=text)), record([attack_seen()]))[0]
        .exhibits[0]
        .clean
        is None
    )


def test_pictures_of_two_sizes_are_not_added(tmp_path):
    (album,) = albums(tmp_path, clean(clean_seen(picture=thumbnail(GREY[:, :8]))), record([attack_seen()]))
    (shot,) = album.exhibits[0].shots
    assert shot.adversarial is None and shot.difference is not None
