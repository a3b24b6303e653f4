"""Files at URLs, which sources read from a copy."""

from __future__ import annotations

import http.server
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import alink as al
from alink import pyalink
from alink.operators import _downloads
from alink.operators._session import session

CSV = b"5.1,setosa\n6.2,virginica\n"
SCHEMA = "x double, name string"


class _Pages(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        served: Served = self.server.served  # type: ignore[attr-defined]
        path = self.path.partition("?")[0]
        served.asked.append((self.path, dict(self.headers)))
        body, headers = served.pages.get(path, (None, {}))
        if body is None:
            self.send_error(404)
            return
        if headers.get("ETag") and self.headers["If-None-Match"] == headers["ETag"]:
            self.send_response(304)
            self.end_headers()
            return
        if "Location" in headers:
            self.send_response(302)
        else:
            self.send_response(200)
            headers = {"Content-Length": str(len(body)), **headers}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        del format, args


class Served:
    """Pages of a server on this machine, and what it was asked."""

    def __init__(self) -> None:
        self.pages: dict[str, tuple[bytes, dict[str, str]]] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Pages)
        self._server.served = self  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def url(self, path: str, login: str = "") -> str:
        return f"http://{login}127.0.0.1:{self._server.server_port}{path}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    pages = Served()
    yield pages
    pages.close()


def csv(url: str, form: str = "Batch") -> Any:
    return getattr(pyalink, f"CsvSource{form}Op")(filePath=url, schemaStr=SCHEMA)


def rows(operator: Any) -> list[Any]:
    return operator.collectToDataframe().to_numpy().tolist()


def folders() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("alink-downloads-*"))


def test_a_file_at_a_url_is_read(served: Served) -> None:
    served.pages["/data/iris.csv"] = CSV, {}
    served.pages["/moved.csv"] = b"", {"Location": "/data/iris.csv"}
    wanted = [[5.1, "setosa"], [6.2, "virginica"]]
    assert rows(csv(served.url("/data/iris.csv"))) == wanted
    assert rows(csv(served.url("/moved.csv"), "Stream")) == wanted
    assert served.asked[0][1]["User-Agent"] == "alink"
    lines = pyalink.TextSourceBatchOp(filePath=served.url("/data/iris.csv"))
    assert rows(lines) == [["5.1,setosa"], ["6.2,virginica"]]


def test_files_that_workers_read(served: Served, tmp_path: Path) -> None:
    frame = pd.DataFrame([["a", 1]])
    source = pyalink.BatchOperator.fromDataframe(frame, schemaStr="s string, n int")
    source.link(pyalink.AkSinkBatchOp(filePath=str(tmp_path / "m.ak")))
    pyalink.BatchOperator.execute()
    served.pages["/m.ak"] = (tmp_path / "m.ak").read_bytes(), {}
    served.pages["/a.svm"] = b"1 1:2.5\n", {}
    assert rows(pyalink.AkSourceBatchOp(filePath=served.url("/m.ak"))) == [["a", 1]]
    assert len(rows(pyalink.LibSvmSourceBatchOp(filePath=served.url("/a.svm")))) == 1


def test_a_file_that_has_not_changed_is_sent_once(served: Served) -> None:
    served.pages["/a.csv"] = CSV, {"ETag": '"1"', "Last-Modified": "Sat, 28 Nov 2026 07:00:00 GMT"}
    url = served.url("/a.csv")
    first = csv(url)
    assert len(rows(first)) == 2
    assert len(rows(csv(url))) == 2
    assert served.asked[1][1]["If-None-Match"] == '"1"'
    assert "If-Modified-Since" in served.asked[1][1]
    copies = list(session().downloads._copies.values())
    served.pages["/a.csv"] = b"1.0,new\n", {"ETag": '"2"'}
    assert rows(csv(url)) == [[1.0, "new"]]
    assert len(rows(first)) == 2  # a job of before has what it was made with
    assert copies[0].path.exists()


def test_a_login_is_sent_and_never_shown(served: Served) -> None:
    served.pages["/a.csv"] = CSV, {}
    assert len(rows(csv(served.url("/a.csv?token=t0p", "me:pa%40ss@")))) == 2
    path, headers = served.asked[0]
    assert path == "/a.csv?token=t0p"
    assert headers["Authorization"] == "Basic bWU6cGFAc3M="
    served.pages["/moved.csv"] = b"", {"Location": "/a.csv"}
    assert len(rows(csv(served.url("/moved.csv", "me:pa%40ss@")))) == 2
    assert ["Authorization" in headers for _, headers in served.asked[1:]] == [True, False]
    source = csv(served.url("/none.csv?token=t0p", "me:pa%40ss@"))
    with pytest.raises(al.PlanError) as caught:
        rows(source)
    told = caught.value.diagnostic.message
    assert "/none.csv" in told
    for secret in ("t0p", "pa%40ss", "pa@ss"):
        assert secret not in told


def test_what_cannot_be_had_is_told_and_nothing_is_left(served: Served) -> None:
    served.pages["/short.csv"] = CSV, {"Content-Length": "1000"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}/a.csv"
    csv_before = session().downloads._folder
    for url, text in (
        (served.url("/none.csv"), "cannot be read: its server says 404 Not Found"),
        (served.url("/short.csv"), r"the connection ended after 25 of 1,000 bytes"),
        (nobody, "cannot be read: connection refused"),
        ("http://no.such.host.invalid/a.csv", "cannot be read: "),
        ("http:///a.csv", "cannot be read: no host given"),
    ):
        with pytest.raises(al.PlanError, match=f"CsvSourceBatchOp.*{text}"):
            rows(csv(url))
    folder = session().downloads._folder
    assert folder is not None
    if folder != csv_before:
        assert list(folder.iterdir()) == []


def test_the_name_of_a_file_is_the_urls() -> None:
    name = _downloads._file_name
    assert name("http://h/data/iris.csv?x=1") == "iris.csv"
    assert name("http://h/%2e%2e%2fetc%2fpasswd") == "_etc_passwd"
    assert name("http://h/") == name("http://h") == "file"
    assert name("http://h/数据.csv.gz") == "数据.csv.gz"
    assert len(name("http://h/" + "a" * 500 + ".csv.gz")) == 100


def test_copies_go_with_the_session(served: Served) -> None:
    served.pages["/a.csv"] = CSV, {}
    pyalink.resetEnv()
    before = folders()
    assert len(rows(csv(served.url("/a.csv")))) == 2
    [made] = folders() - before
    child = os.fork()
    if child == 0:
        session().downloads._remove()
        os._exit(0)
    os.waitpid(child, 0)
    assert made.exists(), "a child that was forked has removed it"
    pyalink.resetEnv()
    assert not made.exists()


def test_a_long_download_is_told(
    served: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_downloads, "_TOLD_AFTER_S", -1.0)
    served.pages["/big.csv"] = CSV * 100_000, {}
    url = served.url("/big.csv?token=t0p")
    assert len(rows(csv(url))) == 200_000
    shown = url.partition("?")[0]
    assert f"[CsvSourceBatchOp] downloads {shown}, 2 MB\n" in capsys.readouterr().err
