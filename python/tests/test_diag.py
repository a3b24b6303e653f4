from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

import alink as al
from alink._codes import CODES
from alink._diag import Diagnostic, ExceptionInfo, Row, Source, did_you_mean
from alink._errors import error_of

# Go renders the same files in diag/render_test.go.
TESTDATA = Path(__file__).resolve().parents[2] / "diag" / "testdata"
GOLDEN = sorted(TESTDATA.glob("*.json"))


def test_there_are_golden_files():
    assert len(GOLDEN) >= 9


@pytest.mark.parametrize("file", GOLDEN, ids=lambda file: file.stem)
def test_render(file):
    diagnostic = al.Diagnostic.from_json(json.loads(file.read_text()))
    assert diagnostic.render() + "\n" == file.with_suffix(".txt").read_text()


def test_did_you_mean():
    lines = (TESTDATA / "suggest.txt").read_text().splitlines()
    assert lines
    for line in lines:
        name, candidates, hint = line.split(" | ")
        assert did_you_mean(name, "columns", candidates.split()) == hint


def test_frames_without_text_are_filled_in():
    source = al.Source(__file__, 1).with_text()
    assert source.text == "from __future__ import annotations"
    assert al.Source("<nowhere>", 3).with_text().text == ""


def test_every_code_has_its_exception_class():
    for code, (name, _) in CODES.items():
        error = error_of(al.Diagnostic(code, "message"))
        assert type(error) is getattr(al, name), code
        assert error.code == code
    assert type(error_of(al.Diagnostic("ALK9999", "of a newer engine"))) is al.Error


@pytest.mark.parametrize(
    ("exception", "expected"),
    [
        (("builtins", "ValueError", "no"), ValueError("no")),
        (("builtins", "KeyError", "'x'"), KeyError("'x'")),
        (("builtins", "UnicodeDecodeError", "bad byte"), al.RemoteException),
        (("builtins", "print", "no class"), al.RemoteException),
        (("builtins", "KeyboardInterrupt", ""), al.RemoteException),
        (("os", "system", "echo"), al.RemoteException),
        (("pandas.errors", "MergeError", "both"), al.RemoteException),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
def test_cause(exception, expected):
    module, name, message = exception
    info = {"module": module, "type": name, "message": message}
    data = {"code": "ALK2001", "message": "f raised", "exception": info}
    cause = error_of(al.Diagnostic.from_json(data)).__cause__
    if isinstance(expected, Exception):
        assert type(cause) is type(expected)
        assert cause is not None
        assert cause.args == expected.args
        return
    assert type(cause) is al.RemoteException
    assert cause.message == message
    assert str(cause).startswith(name if module == "builtins" else f"{module}.{name}")


def test_errors_can_be_pickled():
    error = error_of(al.Diagnostic("ALK1001", "no column", hint="did you mean a?"))
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is al.PlanError
    assert again.diagnostic == error.diagnostic
    assert str(again) == str(error)


def test_the_wire_form_is_read_back():
    diagnostic = Diagnostic(
        "ALK2001",
        "it failed",
        function="f",
        source=Source("a.py", 3, text="f(x)", column=1, end_column=2),
        frames=(Source("a.py", 3),),
        row=Row(7, (("x", "'ä'"),)),
        facts=("a fact",),
        exception=ExceptionInfo("builtins", "ValueError", "no"),
        hint="do not",
    )
    assert Diagnostic.from_json(json.loads(json.dumps(diagnostic.to_json()))) == diagnostic
    plain = Diagnostic("ALK2001", "it failed")
    assert plain.to_json() == {"code": "ALK2001", "message": "it failed"}
