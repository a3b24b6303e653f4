"""Wheels that tests make, and a package index on this machine that demands a login."""

from __future__ import annotations

import base64
import hashlib
import http.server
import threading
import zipfile
from pathlib import Path


def make_wheel(folder, name, version, requires=(), tag="py3-none-any"):
    """Make a wheel with one module that knows its version; equal ones have equal bytes."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    files = {
        f"{module}.py": f"version = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        + "".join(f"Requires-Dist: {r}\n" for r in requires),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    record = "".join(f"{path},{_record(text)}\n" for path, text in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
    path = Path(folder, f"{module}-{version}-{tag}.whl")
    with zipfile.ZipFile(path, "w") as wheel:
        for name_, text in files.items():
            wheel.writestr(zipfile.ZipInfo(name_, (2020, 1, 1, 0, 0, 0)), text)
    return path


def _record(text):
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256={base64.urlsafe_b64encode(digest).rstrip(b'=').decode()},{len(text)}"


class PrivateIndex:
    """A package index (PEP 503) over the wheels of a folder; a context manager."""

    def __init__(self, folder, username, password):
        self.folder, self.username, self.password = Path(folder), username, password
        self.refused = self.served = 0
        index = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                index.answer(self)

            do_HEAD = do_GET

            def log_message(self, format, *args):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self.host = f"127.0.0.1:{self._server.server_port}"
        self.url = f"http://{self.host}/simple"

    def answer(self, request):
        login = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        if request.headers.get("Authorization") != f"Basic {login}":
            self.refused += 1
            request.send_response(401)
            request.send_header("WWW-Authenticate", 'Basic realm="packages"')
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        body = self._body(request.path.strip("/").split("/"))
        request.send_response(404 if body is None else 200)
        request.send_header("Content-Type", "text/html")
        request.send_header("Content-Length", str(len(body or b"")))
        request.end_headers()
        if request.command == "GET" and body:
            self.served += 1
            request.wfile.write(body)

    def _body(self, parts):
        if parts[0] == "files":
            return (self.folder / parts[1]).read_bytes()
        links = []
        for wheel in sorted(self.folder.glob(f"{parts[1].replace('-', '_')}-*.whl")):
            digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
            links.append(f'<a href="/files/{wheel.name}#sha256={digest}">{wheel.name}</a>')
        return "".join(links).encode() or None

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
