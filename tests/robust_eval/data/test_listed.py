import pytest

from robust_eval.data import open_source
from robust_eval.errors import DataError


@pytest.fixture
def listed(tmp_path, png):
    """Writes a CSV file beside a folder of four images; returns its path."""
    (tmp_path / "shots").mkdir()
    for i in range(4):
        (tmp_path / f"shots/{i}.png").write_bytes(png(10 * i))

    def write(text: str, name: str = "list.csv") -> str:
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


def test_paths_start_at_the_file_and_columns_go_by_name(listed, pairs, monkeypatch):
    monkeypatch.chdir("/")
    source = open_source(listed("id,Label, Path\n7,1,shots/0.png\n8,0,shots/1.png\n"))
    assert pairs(source.test(None)) == [(0, 1), (10, 0)] and source.train() is None


def test_a_column_tells_the_splits_which_number_the_classes_alike(listed, pairs):
    text = "path,class,split\nshots/0.png,cat,train\nshots/1.png,dog,test\nshots/2.png,dog,train\n"
    source = open_source(listed(text))
    assert pairs(source.test(None)) == [(10, 1)] and pairs(source.train()) == [(0, 0), (20, 1)]
    assert source.test(None).class_names == source.train().class_names == ("cat", "dog")


def test_tabs_separate_a_tsv(listed, pairs):
    assert pairs(open_source(listed("file\ty\nshots/3.png\t2\n", "a.tsv")).test(None)) == [(30, 2)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("pth,label\nshots/0.png,1\n", r"a column of paths called .*'pth', 'label'.*did you mean 'path'"),
        ("path,lable\nshots/0.png,1\n", r"a column of labels called .*did you mean 'label'"),
        (
            "path,label\nshots/0.png,1\nshots/9.png,1\n",
            r"1 of 2 files are missing, first 'shots/9\.png' in row 2",
        ),
        ("path,label\nshots/0.png,\n", "a label for each image, got none in row 1"),
        ("path,label\n", "got no rows"),
        ("", "got no rows"),
        ("path,label,split\nshots/0.png,1,train\n", "expected rows of a split test or val"),
    ],
)
def test_a_list_that_nearly_fits_is_refused_in_one_line(listed, text, told):
    with pytest.raises(DataError, match=told) as error:
        open_source(listed(text)).test(None)
    assert "\n" not in str(error.value)


def test_missing_files_are_left_out_where_that_is_asked_for(listed, pairs, caplog):
    path = listed("path,label\nshots/0.png,1\nshots/9.png,1\n")
    assert pairs(open_source(path, skip_unreadable=True).test(None)) == [(0, 1)]
    assert "1 of 2 image that cannot be read is left out" in caplog.text
