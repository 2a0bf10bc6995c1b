import pytest

from robust_eval.printable import folder_name, printable, printable_all

BAD = ["a\x1b[31mb", "a\0b", "a\nb", "a\rb", "a\x9bb", "a\u2028b", "a\u202eb", "a\udcffb"]
PLAIN = ["resnet18", "my net (2)", "ä-ß-名前", "v1.2_ema", "a=b,c"]


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_printed_is_written_as_its_escape(name):
    made = printable(name)
    assert made.isprintable() and made == printable(made)
    assert made.encode().decode("unicode_escape").encode("utf-16", "surrogatepass") == name.encode(
        "utf-16", "surrogatepass"
    )


@pytest.mark.parametrize("name", PLAIN)
def test_a_name_that_can_be_printed_and_be_a_folder_stays(name):
    assert printable(name) == folder_name(name) == name


def test_plain_data_keeps_its_form():
    given = {"a\x1b": ["b\0", 1, None, (2.5, "c\n")], "d": {"e": True}}
    assert printable_all(given) == {"a\\x1b": ["b\\x00", 1, None, (2.5, "c\\x0a")], "d": {"e": True}}


LEADING = [
    "../../x",
    "/etc/x",
    "..",
    ".",
    "",
    " ",
    "a/b",
    "a\\b",
    "~/x",
    "-x",
    ".hidden",
    "n" * 300,
    "名" * 90,
    "a ",
]


@pytest.mark.parametrize("name", [*LEADING, *BAD])
def test_any_name_becomes_one_folder_that_leads_nowhere(tmp_path, name):
    made = folder_name(name)
    (tmp_path / made).mkdir()
    assert (tmp_path / made).resolve().parent == tmp_path and [p.name for p in tmp_path.iterdir()] == [made]
    assert len(made.encode()) <= 100 and made.isprintable() and made[0] not in ".-~ "


def test_different_names_have_different_folders():
    names = [*LEADING, *BAD, *PLAIN, "a_b", "a b", "n" * 301, "n" * 300 + "/"]
    assert len({folder_name(name) for name in names}) == len(names)
