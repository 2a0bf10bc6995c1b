import importlib
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from robust_eval.errors import ConfigError
from robust_eval.identity import file_sha256
from robust_eval.models.factory import load_factory


def write(folder: Path, files: dict[str, str]) -> Path:
    """Write ``{"a/b": text}`` as the file a/b.py of the folder."""
    for name, text in files.items():
        path = folder / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def refusal(spec: str) -> str:
    """The message of the ConfigError, which is one line, and leaves the import state as it was."""
    path, modules = list(sys.path), set(sys.modules)
    with pytest.raises(ConfigError) as caught:
        load_factory(spec)
    assert "\n" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert sys.path == path and set(sys.modules) == modules
    return str(caught.value)


NET = "from torch import nn\n\ndef build():\n    return nn.Linear(2, 3)\n"


def test_a_function_and_a_class_of_modules_are_factories(tmp_path):
    net = "\nclass Net(nn.Flatten):\n    def __init__(self, width=3):\n        super().__init__()\n"
    write(tmp_path, {"net": NET + net})
    assert isinstance(load_factory(f"{tmp_path}/net.py:build").network, nn.Linear)
    assert type(load_factory(f"{tmp_path}/net.py:Net").network).__name__ == "Net"


def test_a_relative_path_is_taken_from_the_working_folder(tmp_path, monkeypatch):
    write(tmp_path, {"sub/net": NET})
    monkeypatch.chdir(tmp_path)
    assert isinstance(load_factory("sub/net.py:build").network, nn.Linear)


def test_any_file_name_works(tmp_path):
    write(tmp_path, {"my-net.v2": NET})
    assert isinstance(load_factory(f"{tmp_path}/my-net.v2.py:build").network, nn.Linear)


@pytest.fixture
def ours():
    """Our own packages, loaded before a user's code is."""
    return {name: importlib.import_module(name) for name in ("trainers", "defenses", "reports")}


def test_the_users_own_modules_win_at_import_and_inside_the_call(tmp_path, ours):
    write(
        tmp_path,
        {
            "trainers": "WIDTH = 4\n",
            "defenses/helper": "CLASSES = 5\n",  # a package without __init__.py
            "reports/__init__": "",
            "reports/sizes": "BIAS = False\n",
            "models/__init__": "from models.layers import make\n",
            "models/layers": "from torch import nn\n\nmake = nn.Linear\n",
            "net": (
                "from trainers import WIDTH\n"
                "import models\n\n"
                "def build():\n"
                "    from defenses.helper import CLASSES\n"
                "    import reports.sizes, trainers\n"
                "    assert trainers.WIDTH == WIDTH\n"
                "    return models.make(WIDTH, CLASSES, bias=reports.sizes.BIAS)\n"
            ),
        },
    )
    path, modules = list(sys.path), dict(sys.modules)
    network, _ = load_factory(f"{tmp_path}/net.py:build")
    assert (network.in_features, network.out_features, network.bias) == (4, 5, None)
    assert sys.path == path and sys.modules == modules
    for name, module in ours.items():
        assert importlib.import_module(name) is module
        assert Path(module.__file__).parent.name == name and tmp_path not in Path(module.__file__).parents


def test_our_submodules_come_back_with_their_package(tmp_path, ours):
    loaded = {name: module for name, module in sys.modules.items() if name.split(".")[0] in ours}
    write(
        tmp_path,
        {
            "trainers/__init__": "",
            "trainers/loop": "HERE = 1\n",
            "net": "from trainers.loop import HERE\n" + NET,
        },
    )
    load_factory(f"{tmp_path}/net.py:build")
    assert {name: sys.modules[name] for name in loaded} == loaded
    assert not hasattr(sys.modules["trainers"], "HERE")


def test_our_packages_are_out_of_the_way_of_a_path_that_the_user_adds(tmp_path, ours):
    write(tmp_path, {"trainers": "WIDTH = 6\n"})
    scripts = write(
        tmp_path / "scripts",
        {
            "net": (
                "import sys\nfrom pathlib import Path\nsys.path.insert(0, str(Path(__file__).parents[1]))\n"
                "from trainers import WIDTH\n" + NET.replace("2,", "WIDTH,")
            ),
        },
    )
    path = list(sys.path)
    assert load_factory(f"{scripts}/net.py:build").network.in_features == 6
    assert sys.path == path and sys.modules["trainers"] is ours["trainers"]


def test_two_folders_with_equal_names_do_not_meet(tmp_path):
    for width in (2, 3):
        write(
            tmp_path / str(width),
            {
                "sizes": f"WIDTH = {width}\n",
                "net": "import sizes\n" + NET.replace("2,", "sizes.WIDTH,"),
            },
        )
    assert [load_factory(f"{tmp_path}/{width}/net.py:build").network.in_features for width in (2, 3, 2)] == [
        2,
        3,
        2,
    ]
    assert "sizes" not in sys.modules and "net" not in sys.modules


def test_any_loaded_module_that_the_folder_shadows_comes_back(tmp_path, monkeypatch):
    theirs = type(sys)("shadowed")
    monkeypatch.setitem(sys.modules, "shadowed", theirs)
    write(
        tmp_path,
        {"shadowed": "WIDTH = 7\n", "net": "import shadowed\n" + NET.replace("2,", "shadowed.WIDTH,")},
    )
    assert load_factory(f"{tmp_path}/net.py:build").network.in_features == 7
    assert sys.modules["shadowed"] is theirs


def test_a_file_that_was_imported_before_stays_imported(tmp_path, monkeypatch):
    write(tmp_path, {"once": NET})
    monkeypatch.syspath_prepend(tmp_path)
    before = importlib.import_module("once")
    load_factory(f"{tmp_path}/once.py:build")
    assert sys.modules.pop("once") is before


def test_a_file_named_like_the_standard_library_leaves_it_alone(tmp_path):
    import types

    write(tmp_path, {"types": NET, "copy": "raise RuntimeError\n"})
    assert isinstance(load_factory(f"{tmp_path}/types.py:build").network, nn.Linear)
    assert sys.modules["types"] is types


def test_the_network_works_after_the_import_state_is_put_back(tmp_path):
    write(
        tmp_path,
        {
            "trainers": "def double(x):\n    return 2 * x\n",
            "net": (
                "from torch import nn\nimport trainers\n\nclass Net(nn.Module):\n"
                "    def forward(self, x):\n        return trainers.double(x)\n"
            ),
        },
    )
    assert load_factory(f"{tmp_path}/net.py:Net").network(torch.ones(1)).item() == 2


@pytest.mark.parametrize("spec", ["net.py", "net.py:", ":build", "", "net"])
def test_a_missing_part_is_asked_for(spec):
    assert f"expected file.py:factory, got {spec!r}; add the factory's name, as in '" in refusal(spec)


def test_a_missing_file_is_named_with_the_nearest_one(tmp_path):
    write(tmp_path, {"network": NET})
    assert "netwrok.py' (did you mean 'network.py'?)" in refusal(f"{tmp_path}/netwrok.py:build")
    assert "no such file" in refusal(f"{tmp_path}/nowhere/net.py:build")


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "net.yaml").write_text("a: 1\n")
    assert "expected a Python file ending in .py, got 'net.yaml'" in refusal(f"{tmp_path}/net.yaml:build")


def test_a_missing_function_is_named_with_the_nearest_one(tmp_path):
    write(tmp_path, {"net": NET})
    message = refusal(f"{tmp_path}/net.py:biuld")
    assert "no function 'biuld' in the file (did you mean 'build'?); it has build" in message


def test_an_error_in_the_factory_is_told_with_file_and_line(tmp_path):
    write(tmp_path, {"parts": "def half(n):\n    raise ValueError('two\\nlines')\n"})
    write(tmp_path, {"net": "from parts import half\n\ndef build():\n    return half(3)\n"})
    message = refusal(f"{tmp_path}/net.py:build")
    assert f"the factory 'build' raised ValueError: two lines ({tmp_path}/parts.py, line 2)" in message


def test_an_error_below_the_users_code_is_told_at_the_users_line(tmp_path):
    write(
        tmp_path, {"net": "from torch import nn\n\ndef build():\n    return nn.Conv2d(3, 4, 3, groups=2)\n"}
    )
    message = refusal(f"{tmp_path}/net.py:build")
    assert "raised ValueError: in_channels" in message and f"({tmp_path}/net.py, line 4)" in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\nimport no_such_module_at_all\n", "raised ModuleNotFoundError: No module named"),
        ("\ndef build(:\n", "raised SyntaxError: invalid syntax"),
        ("\nimport sys; sys.exit(2)\n", "raised SystemExit: 2"),
        ("\nraise KeyError\n", "raised KeyError ("),
    ],
)
def test_an_error_while_importing_is_told_with_file_and_line(tmp_path, text, said):
    write(tmp_path, {"net": text})
    message = refusal(f"{tmp_path}/net.py:build")
    assert f"importing the file {said}" in message and f"({tmp_path}/net.py, line 2)" in message


def test_a_factory_with_arguments_is_refused_with_its_signature(tmp_path):
    write(tmp_path, {"net": "def build(width, *, depth=2):\n    pass\n"})
    message = refusal(f"{tmp_path}/net.py:build")
    assert "expected a factory without arguments, got build(width, *, depth=2)" in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def build():\n    return {'a': 1}\n", "to return an nn.Module, got dict"),
        ("def build():\n    pass\n", "to return an nn.Module, got NoneType"),
        ("build = 3\n", "expected a function that returns a network, got an object of type int"),
        ("from torch import nn\nbuild = nn.Linear(1, 1)\n", "expected a function that returns a network"),
    ],
)
def test_what_gives_no_network_is_refused(tmp_path, text, said):
    write(tmp_path, {"net": text})
    assert said in refusal(f"{tmp_path}/net.py:build")


def code(folder: Path) -> dict[str, str]:
    return load_factory(f"{folder}/net.py:build").code


def test_a_file_that_stands_alone_has_no_code_beside_it(tmp_path):
    write(tmp_path, {"net": "import json, numpy, torch, trainers\n" + NET, "other": NET})
    assert code(tmp_path) == {}


def test_the_code_is_every_module_of_the_users_that_is_imported(tmp_path):
    files = {
        "net": "import pack.layers\n" + NET.replace("    return", "    import late\n    return"),
        "pack/__init__": "",
        "pack/layers": "from . import sizes\n",
        "pack/sizes": "WIDTH = 2\n",
        "late": "",
        "never": "",
    }
    found = code(write(tmp_path, files))
    assert set(found) == {"pack", "pack.layers", "pack.sizes", "late"}
    assert found["pack.sizes"] == file_sha256(tmp_path / "pack/sizes.py")
    write(tmp_path, {"pack/sizes": "WIDTH = 3\n"})
    assert {name for name, sha in code(tmp_path).items() if found[name] != sha} == {"pack.sizes"}


def test_code_on_the_users_path_counts_whoever_imported_it_first(tmp_path, monkeypatch):
    folder = write(tmp_path / "lib", {"shared_layers": "import shared_sizes\n", "shared_sizes": ""})
    monkeypatch.syspath_prepend(folder)
    write(tmp_path / "app", {"net": "from shared_layers import shared_sizes\n" + NET})
    try:
        first = code(tmp_path / "app")
        assert {"shared_layers", "shared_sizes"} == set(first) <= set(sys.modules)
        assert code(tmp_path / "app") == first
    finally:
        for name in ("shared_layers", "shared_sizes"):
            sys.modules.pop(name, None)


def test_installed_packages_beside_the_file_are_no_code_of_the_users(tmp_path):
    write(tmp_path, {"venv/site-packages/installed_layers": ""})
    added = "import sys\nsys.path.append(__file__.replace('net.py', 'venv/site-packages'))\nimport installed_layers\n"
    write(tmp_path, {"net": added + NET})
    try:
        assert code(tmp_path) == {}
    finally:
        sys.modules.pop("installed_layers", None)
