"""What options ask for is asked for once, in one norm."""

import pytest

from robust_eval.cli import main


@pytest.fixture
def evaluated(capsys, monkeypatch):
    def evaluate(*options):
        command = ["robust-eval", "evaluate", "--arch", "none.py:f", "--data", "digits", "--attacks", "pgd"]
        monkeypatch.setattr("sys.argv", [*command, *options])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, " ".join(capsys.readouterr().err.split())

    return evaluate


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--eps", "4/255", "--set", "pgd.eps=0.1"], "--set pgd.eps: expected the radius once"),
        (["--eps", "4/255", "--set", "pgd.norm=l2"], "expected a radius in l2, got one in linf (4/255)"),
        (["--set", "pgd.norm=l2"], "expected a radius in l2, got one in linf (the default)"),
    ],
)
def test_a_radius_given_twice_or_in_another_norm_is_refused(evaluated, options, told):
    code, said = evaluated(*options)
    assert code == 2 and told in said


@pytest.mark.parametrize(
    "options",
    [
        ["--set", "pgd.eps=0.1"],
        ["--eps", "l2:0.5", "--set", "pgd.norm=l2"],
        ["--set", "pgd.norm=l2", "--set", "pgd.eps=0.5"],
    ],
)
def test_a_radius_that_is_clear_is_taken(evaluated, options):
    assert "radius" not in evaluated(*options)[1]
