"""The counts of tools/house.py."""

import importlib.util
from types import ModuleType

import pytest

from helip.cli import ROOT


@pytest.fixture(scope="module")
def house() -> ModuleType:
    spec = importlib.util.spec_from_file_location("house", ROOT / "tools/house.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_rooms_stand_above_what_they_import(house: ModuleType) -> None:
    pairs = {("training", "data"), ("data", "errors"), ("training", "errors")}
    assert house.floors(["training", "errors", "data"], pairs) == ["errors", "data", "training"]
    with pytest.raises(ValueError, match=r"the rooms \['a', 'b'\] import each other in a circle"):
        house.floors(["a", "b", "c"], {("a", "b"), ("b", "a")})


def test_what_is_counted(house: ModuleType) -> None:
    files = {
        "helip/mining/exact.py": "from helip.mining import sweep\nfrom helip.errors import E\ndef f():\n    pass\n",
        "helip/mining/sweep.py": "def g():\n    from helip.mining.rules import r\n    return r\n",
        "helip/mining/rules.py": "",
        "helip/mining/pool.py": "import helip.mining.exact",
        "helip/errors.py": "class E: ...",
        "conf/loss/siglip.yaml": "_target_: helip.SigLip",
    }
    assert house.opened("helip/mining/exact.py", files) == [f"helip/mining/{n}.py" for n in ("exact", "rules", "sweep")]
    assert house.longest_function(house.library(files)) == (3, "mining/sweep.py g")
    assert house.lines_of_rooms(files).most_common(1) == [("mining", 8)]
    assert house.edited("loss", files) == 1 and house.edited("evaluator", files) == 0
    own = {"examples/extend/loss.py": "", "examples/extend/conf/loss/a.yaml": "_target_: extend.loss.A"}
    assert house.edited("loss", files | own) == 2
