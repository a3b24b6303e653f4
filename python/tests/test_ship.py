"""Functions on their way to workers: read back in a Python that has none of our modules."""

from __future__ import annotations

import functools
import io
import json
import socket
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import numpy as np
import pytest

import alink as al
from alink import _ship
from alink._ship import Artifact, local_modules, ship

# What a worker does: modules in front of its packages, then the pickle or the source.
READ = """
import json, pickle, sys
sys.path[:0] = json.loads(sys.argv[1])
if sys.argv[2] == "pickle":
    with open(sys.argv[3], "rb") as file:
        f = pickle.load(file)
else:
    names = {"__name__": "source"}
    with open(sys.argv[3]) as file:
        exec(compile(file.read(), "source.py", "exec"), names)
    f = names[sys.argv[4]]
print(json.dumps(f(*json.loads(sys.argv[5]))))
"""


@pytest.fixture
def run_elsewhere(tmp_path):
    """Call a shipped function in another process, isolated like a worker."""

    def run(function, *args, same_python=True, python=sys.executable):
        target = getattr(function, "target", function)
        shipment = ship(target, target.__name__, same_python)
        folders = []
        for i, module in enumerate(shipment.modules):
            folder = tmp_path / "modules" / str(i)
            with zipfile.ZipFile(io.BytesIO(module.data)) as archive:
                archive.extractall(folder)
            folders.append(str(folder))
        code = tmp_path / "code"
        if shipment.pickle is not None:
            code.write_bytes(shipment.pickle.data)
        else:
            code.write_text(shipment.code["source"])
        kind = "source" if shipment.pickle is None else "pickle"
        arguments = [json.dumps(folders), kind, str(code), target.__name__, json.dumps(args)]
        done = subprocess.run(
            [python, "-I", "-S", "-c", READ, *arguments],
            capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder on sys.path, like that of a script or of an editable install."""
    folder = tmp_path / "src"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(folder, name, text):
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(textwrap.dedent(text))


OFFSET = 10


def test_function_with_a_closure_and_globals(run_elsewhere):
    factor = 3

    def scale(x):
        return x * factor + OFFSET

    assert run_elsewhere(scale, 2) == 16


def test_decorated_functions_within_functions(run_elsewhere):
    @al.udf("bigint")
    def inner(x):
        return x + 1

    @al.udf("bigint")
    def outer(x):
        return 1 if x == 0 else inner(x) * outer(x - 1)

    assert run_elsewhere(outer, 3) == 24


def test_class(run_elsewhere):
    @al.udf("bigint")
    class Adder:
        def __call__(self, x):
            return x + 1

    def use(x):
        return Adder(x) * 10 + Adder.local(x)

    assert run_elsewhere(use, 3) == 44


def test_a_class_within_a_function_is_set_up_once(run_elsewhere):
    @al.udf("bigint")
    class Counter:
        def setup(self):
            self.calls = 0

        def __call__(self):
            self.calls += 1
            return self.calls

    def use():
        return [Counter(), Counter.local(), Counter()]

    assert run_elsewhere(use) == [1, 2, 3]


def test_the_plain_function_of_a_decorated_one(run_elsewhere):
    @al.udf("bigint")
    def inner(x):
        return x + 1

    @al.udf("bigint")
    def outer(x):
        return 1 if x == 0 else inner.local(x) * outer.local(x - 1)  # pyright: ignore[reportFunctionMemberAccess]

    assert run_elsewhere(outer, 3) == 24
    assert outer.local(3) == 24


@functools.lru_cache(maxsize=2, typed=True)
def halved(x):
    return x / 2


def test_functions_with_a_cache(folder, run_elsewhere, monkeypatch):
    @functools.cache
    def doubled(x):
        return 2 * x

    def use(x):
        return [doubled(x), doubled(x), doubled.cache_info().hits, halved(x)]

    doubled(3)  # what the client has in its cache stays behind
    monkeypatch.setattr(halved, "__module__", "__main__")
    assert run_elsewhere(use, 3) == [6, 6, 1, 1.5]
    text = """
        import functools

        @functools.cache
        def tripled(x):
            return 3 * x
        """
    write(folder, "with_a_cache.py", text)
    from with_a_cache import tripled  # pyright: ignore[reportMissingImports]

    def through_it(x):
        return tripled(x) + 1

    assert run_elsewhere(through_it, 3) == 10


def test_what_is_too_large_is_named_before_it_fills_the_memory(monkeypatch):
    monkeypatch.setattr(_ship, "PICKLE_BYTES_MAX", 2 << 20)
    small, large = bytes(1 << 20), np.zeros(1 << 20)

    def use(x):
        return x + len(small) + large[0]

    with pytest.raises(al.PlanError) as caught:
        ship(use, "use", True)
    assert caught.value.code == "ALK2005"
    assert caught.value.diagnostic.message == (
        'use is too large to be sent to a worker: it uses "large", '
        "a numpy.ndarray of more than 2 MiB"
    )
    assert caught.value.diagnostic.facts == ("a function may have 2 MiB with what it uses",)

    def both(x, other=bytes(1500_000)):
        return x + len(small) + len(other)

    with pytest.raises(al.PlanError, match="a bytes of 1 MiB"):
        ship(both, "both", True)


def test_module_beside_the_script(folder, run_elsewhere):
    write(folder, "beside_us.py", "def double(x):\n    return 2 * x\n")
    import beside_us  # pyright: ignore[reportMissingImports]

    def by_module(x):
        return beside_us.double(x)

    double = beside_us.double

    def by_name(x):
        return double(x)

    def imported_inside(x):
        from beside_us import double  # pyright: ignore[reportMissingImports]

        return double(x)

    for function in (by_module, by_name, imported_inside, beside_us.double):
        assert run_elsewhere(function, 21) == 42


def test_imports_are_followed(folder, run_elsewhere):
    write(folder, "first_step.py", """
        from second_step.deep import value
        def get():
            import third_step
            return value() + third_step.VALUE
    """)  # fmt: skip
    write(folder, "second_step/__init__.py", "")
    write(folder, "second_step/deep.py", "from . import other\ndef value(): return other.read()\n")
    write(folder, "second_step/other.py", """
        from pathlib import Path
        def read(): return int(Path(__file__).with_name("data.txt").read_text())
    """)  # fmt: skip
    write(folder, "second_step/data.txt", "40")
    write(folder, "second_step/__pycache__/junk.pyc", "junk")
    write(folder, "third_step.py", "VALUE = 2\nimport fourth_step\n")
    write(folder, "fourth_step/no_init.py", "")
    write(folder, "unrelated.py", "")
    import first_step  # pyright: ignore[reportMissingImports]

    def answer():
        return first_step.get()

    assert run_elsewhere(answer) == 42
    found = {name.split(".")[0] for name in local_modules({"first_step"})}
    assert found == {"first_step", "second_step", "third_step", "fourth_step"}
    names = {
        name
        for module in ship(answer, "answer", True).modules
        for name in zipfile.ZipFile(io.BytesIO(module.data)).namelist()
    }
    assert "second_step/data.txt" in names
    assert not any("__pycache__" in name for name in names)


def test_relative_import_within_a_packages_function(folder, run_elsewhere):
    write(folder, "our_package/__init__.py", "")
    write(folder, "our_package/helpers.py", "def triple(x): return 3 * x\n")
    write(folder, "our_package/udfs.py", """
        import alink as al
        from .helpers import triple
        LIMIT = 100
        @al.udf("bigint")
        def capped(x):
            from .helpers import triple as again
            return min(triple(x), again(x), LIMIT)
    """)  # fmt: skip
    from our_package.udfs import capped  # pyright: ignore[reportMissingImports]

    assert run_elsewhere(capped, 5) == 15
    assert run_elsewhere(capped, 50) == 100


def test_module_that_uses_alink(folder):
    """Such a module can be imported in a worker whose environment has no alink."""
    write(folder, "with_udfs.py", """
        import alink as al
        def helper(x): return x + 1
        @al.udf("bigint")
        def f(x): return helper(x)
    """)  # fmt: skip
    import with_udfs  # pyright: ignore[reportMissingImports]

    modules = ship(with_udfs.f.target, "f", True).modules
    names = [n for m in modules for n in zipfile.ZipFile(io.BytesIO(m.data)).namelist()]
    assert "with_udfs.py" in names
    assert "alink/__init__.py" in names
    assert not any(name.startswith("alink/_worker") for name in names)


def test_installed_and_standard_modules_stay(run_elsewhere):
    assert local_modules({"json", "os.path", "numpy", "pyarrow.compute", "cloudpickle"}) == set()
    assert local_modules({"there_is_no_such_module", ""}) == set()


def test_archives_are_deterministic(folder):
    write(folder, "stable_module/__init__.py", "VALUE = 1\n")
    import stable_module  # pyright: ignore[reportMissingImports]

    def f():
        return stable_module.VALUE

    first = ship(f, "f", True).modules
    Path(folder, "stable_module", "__init__.py").touch()
    assert [a.digest for a in ship(f, "f", True).modules] == [a.digest for a in first]
    write(folder, "stable_module/__init__.py", "VALUE = 2\n")
    assert [a.digest for a in ship(f, "f", True).modules] != [a.digest for a in first]


def test_module_that_is_too_big(folder, monkeypatch):
    import alink._ship

    monkeypatch.setattr(alink._ship, "MODULE_BYTES_MAX", 2**20)
    write(folder, "big_module/__init__.py", "")
    (folder / "big_module" / "data.bin").write_bytes(bytes(2**20 + 1))
    import big_module  # pyright: ignore[reportMissingImports]

    def f():
        return big_module

    with pytest.raises(al.PlanError, match="needs the local module big_module, which has more"):
        ship(f, "f", True)


def test_function_of_a_module_travels_by_value(folder, run_elsewhere):
    """Its module's other imports need not exist in the worker."""
    write(folder, "fit_module.py", "import pytest\ndef train(x):\n    return x + 1\n")
    import fit_module  # pyright: ignore[reportMissingImports]

    assert run_elsewhere(fit_module.train, 1) == 2
    shipment = ship(fit_module.train, "train", True)
    assert len(shipment.modules) == 1, "cloudpickle alone"


def test_annotations_stay_behind(run_elsewhere):
    import pandas as pd

    def typed(x):
        return x

    # What they name is not imported elsewhere.
    typed.__annotations__ = {"x": pd.DataFrame, "return": pd.Series}
    assert run_elsewhere(typed, 5) == 5


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: open(__file__), "an open file"),  # noqa: PTH123, SIM115
        (socket.socket, "a socket.socket"),
        (al.connect, "an alink.Context"),
        (lambda: al.Model(b""), "an alink.Model"),
    ],
    ids=["file", "socket", "context", "model"],
)
def test_what_cannot_be_sent(make, what):
    thing = make()

    @al.udf("bigint")
    def uses_it(x):
        return thing, x

    with pytest.raises(al.PlanError, match="ALK2005: uses_it cannot be sent") as caught:
        ship(uses_it.target, uses_it.name, True)
    assert f'it uses "thing", {what}\n' in str(caught.value)
    assert "_thread" not in str(caught.value)
    assert "hint: " in str(caught.value)
    if hasattr(thing, "close"):
        thing.close()


def test_what_cannot_be_sent_of_a_class():
    file = open(__file__)  # noqa: PTH123, SIM115

    class Holder:
        log = file

        def __call__(self, x):
            return x

    with file, pytest.raises(al.PlanError, match='it uses "log", an open file'):
        ship(Holder, "Holder", True)


# --- source text for another Python ---

SCALE = 2.5


def with_globals(x, y=OFFSET):
    """Uses a module, a constant and a default."""
    return [json.dumps(x), x * SCALE, y, textwrap.dedent("  a")]


def raises(x):
    return 1 / x


def test_source_text(run_elsewhere):
    assert run_elsewhere(with_globals, 2, same_python=False) == ["2", 5.0, 10, "a"]


def test_source_text_of_a_decorated_function(run_elsewhere):
    @al.udf("double")
    def inner(x: al.Table) -> float:
        def nested(y):
            return math_module_is_here.sqrt(y)

        import math as math_module_is_here

        return nested(x)

    with pytest.raises(al.PlanError, match='"math_module_is_here" is not defined'):
        ship(_free_reader, "f", False)
    assert run_elsewhere(inner, 9.0, same_python=False) == 3.0


def _free_reader(x):
    return math_module_is_here.sqrt(x)  # noqa: F821  # pyright: ignore


def test_source_text_keeps_line_numbers():
    import traceback

    text = ship(raises, "raises", False).code["source"]
    names = {}
    exec(compile(text, __file__, "exec", dont_inherit=True), names)
    try:
        names["raises"](0)
    except ZeroDivisionError as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        assert frame.lineno is not None
        line = Path(__file__).read_text().splitlines()[frame.lineno - 1]
        assert line == "    return 1 / x"


def test_source_text_of_a_local_module(folder, run_elsewhere):
    write(folder, "for_source.py", "def double(x):\n    return 2 * x\n")
    write(folder, "defines.py", "import for_source\ndef f(x):\n    return for_source.double(x)\n")
    from defines import f  # pyright: ignore[reportMissingImports]

    assert run_elsewhere(f, 4, same_python=False) == 8


@functools.lru_cache(maxsize=4)
def _cached_helper(x):
    return x + OFFSET


@al.udf("bigint")
def _decorated_helper(x, scale=SCALE):
    return _cached_helper(x) * scale


_another_name = _decorated_helper


def _calls_helpers(x):
    return 0 if x == 0 else _decorated_helper(x) + _another_name.local(x) + _calls_helpers(x - 1)


def _calls_a_closure(x):
    return _closure(x)


def _make_closure(y):
    def closure(x):
        return x + y

    return closure


_closure = _make_closure(1)
_other_closure = _make_closure(2)


def _calls_two_closures(x):
    return _closure(x) + _other_closure(x)


def test_source_text_of_what_stands_in_a_function(run_elsewhere):
    import math as mathematics
    from math import sqrt

    weights = {"a": [1, 2.5], "b": None}
    largest = max
    root = np.sqrt

    def scaled(x):
        return x * weights["a"][1]

    def factorial(x):
        return 1 if x == 0 else x * factorial(x - 1)

    def inner(x, power=2):
        def innermost(y):
            return mathematics.floor(scaled(y) ** power)

        return largest(innermost(x), factorial(3)) + sqrt(x)

    def of_numpy(x):
        return root(x)

    assert "from numpy import sqrt as root" in ship(of_numpy, "f", False).code["source"]
    assert run_elsewhere(inner, 4, same_python=False) == 102


def _counted(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args)

    return wrapper


SCRIPT_OF_CLASSES = """
import dataclasses
import math
import sys
import types
from math import floor

import alink as al
from alink._ship import ship

OFFSET = 10

@dataclasses.dataclass
class Line:
    slope: float
    offset: float = OFFSET / 4

    @property
    def shifted(self):
        return floor(self.offset + OFFSET)

class Base:
    kind = "base"
    label = kind.upper()

    def name(self):
        return f"{self.label} {type(self).__name__} {type(self).__module__}"

def make():
    factor = 3

    @al.udf("string")
    class Score(Base):
        def setup(self):
            self.line = Line(2.0)

        def __call__(self, x):
            return f"{super().name()} {x * factor} {self.line.shifted} {self.line} {math.pi:.2}"

    return Score

shipment = ship(make().target, "score", False)
module = sys.modules["anew"] = types.ModuleType("anew")  # as a worker does
exec(compile(shipment.code["source"], "anew.py", "exec"), module.__dict__)
score = getattr(module, shipment.code["name"])()
score.setup()
print(score(2))
"""


def test_source_text_of_classes(tmp_path, script_environment):
    """A class, those that it inherits from and uses, and their decorators."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT_OF_CLASSES)
    command = [sys.executable, str(script)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=script_environment
    )
    assert done.stdout == "BASE Score anew 6 12 Line(slope=2.0, offset=2.5) 3.1\n", done.stderr
    # In a notebook the text is in no file.
    cell = f"import linecache\ntext = open({str(script)!r}).read()\n"
    cell += "linecache.cache['<cell>'] = (len(text), None, text.splitlines(True), '<cell>')\n"
    cell += "exec(compile(text, '<cell>', 'exec'))\n"
    again = subprocess.run(
        [sys.executable, "-c", cell],
        capture_output=True, text=True, check=False, env=script_environment,
    )  # fmt: skip
    assert again.stdout == done.stdout, again.stderr


def test_source_text_of_functions_that_call_others(run_elsewhere, monkeypatch):
    # As in a script: not found by name.
    for function in (_cached_helper, _calls_helpers):
        monkeypatch.setattr(function, "__module__", "__main__")
    monkeypatch.setattr(_decorated_helper.target, "__module__", "__main__")
    expected = _calls_helpers_here(2)
    assert run_elsewhere(_calls_helpers, 2, same_python=False) == expected
    monkeypatch.setattr(_closure, "__module__", "__main__")
    monkeypatch.setattr(_calls_a_closure, "__module__", "__main__")
    assert run_elsewhere(_calls_a_closure, 4, same_python=False) == 5
    monkeypatch.setattr(_other_closure, "__module__", "__main__")
    with pytest.raises(al.PlanError) as caught:
        ship(_calls_two_closures, "f", False)
    assert 'which it calls: two things have the name "closure"' in caught.value.diagnostic.message


def _calls_helpers_here(x):
    return sum(2 * (n + OFFSET) * SCALE for n in range(1, x + 1))


def test_source_text_that_is_refused():
    closed_over = object()

    def closure(x):
        return closed_over

    calls = 0

    def counter(x):
        nonlocal calls
        calls += 1

    @_counted
    def decorated(x):
        return x

    def late(x):
        return assigned_later

    def own_scale(x):
        SCALE = 7

        def scaled(x):
            return x * SCALE

        return scaled

    scaled = own_scale(1)

    def names_clash(x):
        return scaled(x) * SCALE

    for function, words in [
        (closure, 'it uses "closed_over", an object'),
        (counter, 'it changes "calls", outside of it'),
        (decorated, "a decorator has put another function in its place"),
        (late, '"assigned_later" is not defined'),
        (names_clash, 'two things have the name "SCALE"'),
        (lambda x: x, "it is not a plain function"),
        (uses_object, 'it uses "OBJECT"'),
    ]:
        with pytest.raises(al.PlanError, match="ALK2005") as caught:
            ship(function, "f", False)
        assert words in str(caught.value)
        assert "al.Environment(python=" in str(caught.value)
    assigned_later = 1


OBJECT = object()


def uses_object(x):
    return OBJECT


def test_artifacts_are_named_by_their_hash():
    assert Artifact.of(b"").digest == (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )
