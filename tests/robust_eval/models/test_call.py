import pytest

from robust_eval.errors import ConfigError
from robust_eval.models.call import call_in


@pytest.mark.parametrize(
    ("spec", "target", "arguments"),
    [
        ("net.py:build", "net.py:build", {}),
        ("net.py:build()", "net.py:build", {}),
        ("net.py:build(depth=18, name='b(c)')", "net.py:build", {"depth": 18, "name": "b(c)"}),
        ("my (copy)/net.py:build(width=-1.5)", "my (copy)/net.py:build", {"width": -1.5}),
        ("resnet18(blocks=[2, 2], a={'b:c': None})", "resnet18", {"blocks": [2, 2], "a": {"b:c": None}}),
    ],
)
def test_literals_by_name_are_arguments(spec, target, arguments):
    assert call_in(spec) == (target, arguments)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("net.py:build(18)", "expected arguments by name"),
        ("net.py:build(**{'a': 1})", "expected arguments by name"),
        ("net.py:build(depth=open('x'))", "got code (open('x')), which is not run"),
        ("net.py:build(depth=n)", "got code (n)"),
        ("net.py:build(depth=18))", "expected arguments such as"),
        ("net.py:build(" + "[" * 5000 + ")", "expected arguments such as"),
    ],
)
def test_what_is_no_literal_is_refused_and_not_run(spec, said):
    with pytest.raises(ConfigError) as caught:
        call_in(spec)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_arguments_have_one_description_whatever_their_order():
    one, other = call_in("f(a=1, b=(2,))"), call_in("f(b=(2, ), a=1)")
    assert one.described == other.described == {"a": "1", "b": "(2,)"}
