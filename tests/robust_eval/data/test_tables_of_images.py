import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from robust_eval.data import _files, open_source
from robust_eval.data._streamed import Streamed
from robust_eval.errors import ConfigError, DataError

NOTES = {
    "info": {
        "features": {"shot": {"_type": "Image"}, "kind": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    }
}


def table(png, n=6, *, image="image", label="label", notes=None, labels=None):
    images = [{"bytes": png(10 * i), "path": None} for i in range(n)]
    made = pa.table({image: images, label: [i % 2 for i in range(n)] if labels is None else labels})
    return made if notes is None else made.replace_schema_metadata({"huggingface": json.dumps(notes)})


def saved(folder, made):
    """Write a table as ``Dataset.save_to_disk`` does."""
    folder.mkdir(parents=True)
    (folder / "state.json").write_text(
        json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]})
    )
    path = str(folder / "data-00000-of-00001.arrow")
    with pa.OSFile(path, "wb") as file, pa.ipc.new_stream(file, made.schema) as stream:
        stream.write_table(made)


def filled(n=6):
    return [(10 * i, i % 2) for i in range(n)]


def test_a_parquet_file_gives_its_images_with_their_labels(tmp_path, png, pairs):
    pq.write_table(table(png), tmp_path / "some.parquet")
    source = open_source(str(tmp_path / "some.parquet"))
    assert (source.name, pairs(source.test(None)), source.train()) == ("some", filled(), None)


def test_plain_bytes_do_as_well_as_bytes_beside_a_path(tmp_path, png, pairs):
    made = pa.table({"img": [png(0), png(10)], "fine_label": [1, 0], "coarse_label": [5, 5]})
    pq.write_table(made, tmp_path / "some.parquet")
    assert pairs(open_source(str(tmp_path / "some.parquet")).test(None)) == [(0, 1), (10, 0)]


def test_a_folder_of_parquet_files_has_the_splits_that_their_names_say(tmp_path, png, pairs):
    (tmp_path / "data").mkdir()
    pq.write_table(table(png, 3), tmp_path / "data/test-00000-of-00001.parquet")
    pq.write_table(table(png, 2), tmp_path / "data/train-00000-of-00002.parquet")
    pq.write_table(table(png, 2), tmp_path / "data/train-00001-of-00002.parquet")
    source = open_source(str(tmp_path))
    assert pairs(source.test(None)) == filled(3)
    assert pairs(source.train()) == sorted(filled(2) * 2)


def test_a_saved_data_set_is_read_with_the_columns_and_class_names_that_it_notes(tmp_path, png, pairs):
    saved(tmp_path / "set", table(png, image="shot", label="kind", notes=NOTES))
    examples = open_source(str(tmp_path / "set")).test(None)
    assert (pairs(examples), examples.class_names) == (filled(), ("cat", "dog"))


def test_splits_of_a_saved_dictionary_are_its_folders(tmp_path, png, pairs):
    for split, n in (("train", 4), ("validation", 3)):
        saved(tmp_path / "set" / split, table(png, n))
    (tmp_path / "set/dataset_dict.json").write_text(json.dumps({"splits": ["train", "validation"]}))
    source = open_source(str(tmp_path / "set"))
    assert (pairs(source.test(None)), pairs(source.train())) == (filled(3), filled(4))


def test_names_as_labels_are_numbered_by_the_alphabet(tmp_path, png):
    pq.write_table(table(png, 3, labels=["dog", "cat", "eel"]), tmp_path / "a.parquet")
    examples = open_source(str(tmp_path / "a.parquet")).test(None)
    assert examples.class_names == ("cat", "dog", "eel") and sorted(examples.labels.tolist()) == [0, 1, 2]


def test_a_size_is_for_them_as_for_folders(tmp_path, png):
    pq.write_table(table(png), tmp_path / "a.parquet")
    assert open_source(str(tmp_path / "a.parquet"), size=5).test(2).shape == (3, 5, 5)
    with pytest.raises(ConfigError, match="class_order is for image folders only"):
        open_source(str(tmp_path / "a.parquet"), class_order="text")


def test_images_that_do_not_fit_stay_encoded_and_have_the_same_fingerprint(tmp_path, png, pairs, monkeypatch):
    pq.write_table(table(png), tmp_path / "a.parquet")
    source = open_source(str(tmp_path / "a.parquet"))
    held = source.test(None)
    monkeypatch.setattr(_files, "_free", lambda: 10.0)
    streamed = source.test(None)
    assert isinstance(streamed.images, Streamed) and not isinstance(held.images, Streamed)
    assert (pairs(streamed), streamed.fingerprint) == (filled(), held.fingerprint)


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        (
            {"imagee": [b"x"], "label": [0]},
            r"a column of images called .*got the columns 'imagee'.*mean 'image'",
        ),
        ({"image": [b"x"]}, "a column of labels called"),
        (
            {"image": [b"x"], "label": [0.5]},
            "expected whole numbers or names .*, got double in column 'label'",
        ),
        (
            {"image": [b"x"], "label": pa.array([None], pa.int64())},
            "a label for each image, got none in row 1",
        ),
        ({"image": [[1, 2]], "label": [0]}, "expected encoded images"),
        ({"image": pa.array([], pa.binary()), "label": pa.array([], pa.int64())}, "a table without any"),
        ({"image": [b"x"], "label": [0]}, r"0 is no image that can be read"),
    ],
)
def test_a_table_that_nearly_fits_is_refused_in_one_line(tmp_path, columns, told):
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=told) as error:
        open_source(str(tmp_path / "a.parquet")).test(None)
    assert "\n" not in str(error.value)


def test_what_is_no_parquet_file_is_refused(tmp_path):
    (tmp_path / "a.parquet").write_text("<html>")
    with pytest.raises(DataError, match="is no Parquet file or is damaged"):
        open_source(str(tmp_path / "a.parquet")).test(None)


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (
            {"_data_files": [{"filename": "../data.arrow"}]},
            "names of files in this folder, got '../data.arrow'",
        ),
        ({"_data_files": []}, "expected names of Arrow files"),
        ({"_data_files": [{"filename": "none.arrow"}]}, "is no Arrow file"),
        ({"_indices_files": [{"filename": "i.arrow"}], "_data_files": []}, "flatten_indices"),
        ([], "expected an object, got list"),
    ],
)
def test_a_saved_data_set_that_leads_elsewhere_is_refused(tmp_path, state, told):
    (tmp_path / "state.json").write_text(json.dumps(state))
    with pytest.raises(DataError, match=told):
        open_source(str(tmp_path)).test(None)
