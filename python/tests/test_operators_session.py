"""What programs set up: environments, options; and what is printed."""

from __future__ import annotations

import pandas as pd
import pytest

import alink as al
from alink.operators._session import session
from pyalink import alink as pyalink


def source(count: int = 3):
    frame = pd.DataFrame({"x": range(count)})
    return pyalink.BatchOperator.fromDataframe(frame, "x int")


def test_environments_come_as_four():
    benv, btenv, senv, stenv = pyalink.useLocalEnv(2, flinkHome=None, config={"debug": True})
    assert [e.parallelism for e in (benv, btenv, senv, stenv)] == [2] * 4
    env = pyalink.getMLEnv()
    assert isinstance(env, pyalink.MLEnv)
    assert env.stenv.parallelism == session().parallelism == 2
    assert source().collectToDataframe()["x"].tolist() == [0, 1, 2]
    with pytest.raises(AttributeError, match=r"btenv has no from_elements.*fromDataframe"):
        btenv.from_elements([(1, 2)])
    pyalink.resetEnv()
    assert pyalink.getMLEnv().benv.parallelism is None
    pyalink.resetEnv()


def test_a_cluster_of_flink_is_refused():
    with pytest.raises(al.Error, match=r"cluster of Flink \(there:8081\)"):
        pyalink.useRemoteEnv("there", 8081, 2, shipAlinkAlgoJar=False)
    with pytest.raises(al.Error, match="environments of Flink"):
        pyalink.useCustomEnv(None, None, None, None, None)


def test_options_are_kept():
    options = pyalink.AlinkGlobalConfiguration
    assert options.isPrintProcessInfo() is False
    options.setPrintProcessInfo(True)
    options.setPluginDir("here")
    assert options.isPrintProcessInfo() is True
    assert options.getPluginDir() == "here"
    options.setPrintProcessInfo(False)
    params = pyalink.Params().set("selectedCols", ["x"]).set("p", None)
    assert pyalink.Params.fromJson(params.toJson()) == params
    assert pyalink.StandardScaler(pyalink.Params({"selectedCols": ["x"]})).getSelectedCols() == [
        "x"
    ]


def test_several_dataframes_of_one_job(capsys):
    source(1).lazyPrint(title="waits")
    first, second = pyalink.collectToDataframes(source(2), source(3).where("x > 0"))
    assert (first["x"].tolist(), second["x"].tolist()) == ([0, 1], [1, 2])
    assert "waits" in capsys.readouterr().out
    assert pyalink.collectToDataframes([source(1)])[0].shape == (1, 1)
    with pytest.raises(al.Error, match="takes operators, not 3"):
        pyalink.collectToDataframes(3)
    op = pyalink.dataframeToOperator(pd.DataFrame([[1]]), schemaStr="x int", opType="stream")
    assert isinstance(op, pyalink.StreamOperator)
    with pytest.raises(al.Error, match="cannot be 'table'"):
        pyalink.dataframeToOperator(pd.DataFrame([[1]]), "x int", op_type="table")


def test_what_waits_runs_with_what_is_collected(capsys, tmp_path):
    path = tmp_path / "x.csv"
    source().link(pyalink.CsvSinkBatchOp(filePath=str(path)))
    found = []
    source().lazyCollectToDataframe(found.append).lazyPrint(2, "two").collectToDataframe()
    assert path.read_text().split() == ["0", "1", "2"]
    assert capsys.readouterr().out.splitlines() == ["two", "   x", "0  0", "1  1"]
    assert found[0]["x"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(("n", "lines"), [(0, 14), (-1, 14), (70, 71), (3, 4)])
def test_all_rows_are_printed_where_a_number_is_given(n, lines, capsys):
    source(100).print(n)
    assert len(capsys.readouterr().out.splitlines()) == lines


def test_paths():
    path = pyalink.FilePath("/tmp/x", pyalink.LocalFileSystem())
    assert path.getPathStr() == "/tmp/x"
    with pytest.raises(al.Error, match="files are on this machine, not in str"):
        pyalink.FilePath("/tmp/x", "hdfs")
