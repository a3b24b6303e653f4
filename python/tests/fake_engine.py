"""A stand-in for ``pyrunner engine``, for faults that a real engine does not show.

It speaks the client's protocol: options on standard input, one line on standard output,
Flight on a unix socket. What it answers stands in the file that ``ALINK_FAKE`` names::

    {"start": "ready" | "exit" | "error" | "silent",
     "actions": {"submit": {"answer": {…}} | {"events": [{…}, …]} | {"fault": "die" | "hang"}},
     "rows": 3, "rows_fault": "die" | "hang" | "raise" | "diagnostic" | null}

Every call is written to ``calls.jsonl`` beside that file.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import pyarrow as pa
from pyarrow import flight

SCENARIO_PATH = Path(os.environ["ALINK_FAKE"])
SCENARIO = json.loads(SCENARIO_PATH.read_text())


def record(**call):
    with SCENARIO_PATH.with_name("calls.jsonl").open("a") as file:
        file.write(json.dumps(call) + "\n")


def fault(name):
    if name == "die":
        print("the last words of the engine", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "hang":
        time.sleep(600)
    if name == "raise":
        raise flight.FlightServerError("the stream broke")
    if name == "diagnostic":
        raise flight.FlightServerError('{"code":"ALK5006","message":"no \\"memory\\""}')


class Authentication(flight.ServerMiddlewareFactory):
    def __init__(self, token):
        self._expected = [f"Bearer {token}"]

    def start_call(self, info, headers):
        if headers.get("authorization") != self._expected:
            raise flight.FlightUnauthenticatedError("wrong token")


class Engine(flight.FlightServerBase):
    def do_action(self, context, action):
        body = action.body.to_pybytes()
        binary = action.type == "put-artifact"
        record(action=action.type, body=len(body) if binary else json.loads(body))
        if action.type == "shutdown":
            threading.Timer(0.05, os._exit, (0,)).start()
            return [json.dumps({"ok": True}).encode()]
        default = {"answer": {"ok": {"job": "j1"} if action.type == "submit" else True}}
        told = SCENARIO.get("actions", {}).get(action.type, default)
        return self._answers(told)

    def _answers(self, told):
        for event in told.get("events", [told["answer"]] if "answer" in told else []):
            time.sleep(event.pop("after_s", 0))
            yield json.dumps(event).encode()
        fault(told.get("fault"))

    def do_put(self, context, descriptor, reader, writer):
        table = reader.read_all()
        record(put=[part.decode() for part in descriptor.path], rows=table.num_rows)

    def do_get(self, context, ticket):
        record(get=json.loads(ticket.ticket))
        schema = pa.schema([("x", pa.int64())])
        return flight.GeneratorStream(schema, self._rows(schema))

    def _rows(self, schema):
        for i in range(SCENARIO.get("rows", 3)):
            yield pa.record_batch([pa.array([i], pa.int64())], schema=schema)
        fault(SCENARIO.get("rows_fault"))


def end_with_client(run_dir):
    sys.stdin.read()
    shutil.rmtree(run_dir, ignore_errors=True)
    os._exit(0)


def main():
    options = json.loads(sys.stdin.readline())
    record(options=options, argv=sys.argv[1:])
    start = SCENARIO.get("start", "ready")
    if start == "exit":
        print("cannot start: no memory", file=sys.stderr, flush=True)
        sys.exit(3)
    if start == "error":
        error = {"code": "ALK5006", "message": "no memory", "hint": "buy some"}
        print(json.dumps({"error": error}), flush=True)
        sys.exit(1)
    if start == "silent":
        time.sleep(600)
    endpoint = f"grpc+unix://{options['run_dir']}/engine.sock"
    server = Engine(endpoint, middleware={"auth": Authentication(options["token"])})
    # Like the real one: the end of standard input is the end of the client.
    threading.Thread(target=end_with_client, args=(options["run_dir"],), daemon=True).start()
    print(
        json.dumps({"ready": True, "endpoint": endpoint, "pid": os.getpid(), "version": "fake"}),
        flush=True,
    )
    server.serve()


if __name__ == "__main__":
    main()
