"""A stand-in for the engine, which starts real workers and speaks the Fn API to them."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import settings

from alink._worker import _elements, _wire
from alink._worker._fields import METHODS

# Generated values are the same in every run, so that what a run says is about the change that it
# tests; others are tried where they are asked for.
settings.register_profile("same", derandomize=True)
settings.load_profile("default" if os.environ.get("ALINK_NEW_VALUES") else "same")

BOOT = Path(_wire.__file__).with_name("boot.py")
PIECE_BYTES = 16 << 20
ANSWER_SECONDS = 60
TOKEN = "a-secret"
HEADER = (-9223372036854775 + 2**63).to_bytes(8, "big") + b"\0\0\0\1\x0f"


def varint(number):
    return _wire.write_varint(number)


def element(batch, padding=0):
    """An element as the engine writes it."""
    message = batch.serialize().to_pybytes()
    body = bytes([padding]) + bytes(padding) + message
    return HEADER + varint(len(body)) + body


def descriptor(payload, input_schema, id_="stage"):
    """A bundle descriptor with a source, one function and a sink."""
    port = _wire.encode(
        "RemoteGrpcPort", {"api_service_descriptor": {"url": "unix:x"}, "coder_id": "windowed"}
    )
    pardo = _wire.encode(
        "ParDoPayload",
        {"do_fn": {"urn": "alink:fn:arrow:v1", "payload": json.dumps(payload).encode()}},
    )
    coders = {
        "windowed": {
            "spec": {"urn": "beam:coder:windowed_value:v1"},
            "component_coder_ids": ["batch", "window"],
        },
        "batch": {
            "spec": {
                "urn": "alink:coder:arrow:v1",
                "payload": input_schema.serialize().to_pybytes(),
            }
        },
        "window": {"spec": {"urn": "beam:coder:global_window:v1"}},
    }
    transforms = {
        "source": {
            "spec": {"urn": "beam:runner:source:v1", "payload": port},
            "outputs": {"out": "p1"},
        },
        "fn": {
            "spec": {"urn": "beam:transform:pardo:v1", "payload": pardo},
            "inputs": {"in": "p1"},
            "outputs": {"out": "p2"},
        },
        "sink": {
            "spec": {"urn": "beam:runner:sink:v1", "payload": port},
            "inputs": {"in": "p2"},
        },
    }
    return {"id": id_, "transforms": transforms, "coders": coders}


def encode_schema(schema):
    """A schema as it stands in a payload."""
    return base64.b64encode(schema.serialize().to_pybytes()).decode()


def stage(kind, calls, input_schema, output_schema, **payload):
    """The descriptor of calls, whose ids and outputs are filled in where they are missing."""
    calls = [
        {"id": f"f{i + 1}", "name": call["code"].get("name", f"f{i + 1}"), "output": i, **call}
        for i, call in enumerate(calls)
    ]
    payload = {
        "kind": kind,
        "calls": calls,
        "output_schema": encode_schema(output_schema),
        **payload,
    }
    return descriptor(payload, input_schema)


def in_runs(table, keys):
    """Give a table with its first columns run-end encoded, as the engine sends groups."""
    for i in range(keys):
        runs = pc.run_end_encode(table[i].combine_chunks())
        table = table.set_column(i, pa.field(table.field(i).name, runs.type), runs)
    return table


def group_batches(table, rows):
    """Give a table in batches of so many rows, the first column of which numbers groups."""
    table = table.combine_chunks()
    parts = [in_runs(table.slice(i, rows), 1) for i in range(0, table.num_rows, rows)]
    return [batch for part in parts for batch in part.to_batches()]


class BundleFailed(Exception):
    """The error of an InstructionResponse."""

    def __init__(self, text):
        super().__init__(text)
        self.details = json.loads(text)


class Engine:
    """Serves one worker at a time on a unix socket."""

    def __init__(self, folder):
        self.endpoint = f"unix:{folder}/fn.sock"
        self.protocol = "1"
        self.descriptors = {}
        self.descriptor_calls = []
        self.metadata = []
        self.logs = []
        self.logged = threading.Condition()
        self._requests = queue.SimpleQueue()
        self._pieces = queue.SimpleQueue()
        self._answers = {}
        self._outputs = {}
        self._changed = threading.Condition()
        self._count = 0
        self._server = grpc.server(
            futures.ThreadPoolExecutor(16),
            options=[
                ("grpc.max_receive_message_length", 65 << 20),
                ("grpc.max_send_message_length", 65 << 20),
            ],
        )
        handlers = {
            "ProvisionService.GetProvisionInfo": grpc.unary_unary_rpc_method_handler(
                self._provision
            ),
            "BeamFnControl.GetProcessBundleDescriptor": grpc.unary_unary_rpc_method_handler(
                self._descriptor
            ),
            "BeamFnControl.Control": grpc.stream_stream_rpc_method_handler(self._control),
            "BeamFnData.Data": grpc.stream_stream_rpc_method_handler(self._data),
            "BeamFnLogging.Logging": grpc.stream_stream_rpc_method_handler(self._logging),
        }
        paths = {METHODS[name]: handler for name, handler in handlers.items()}

        class Methods(grpc.GenericRpcHandler):
            def service(self, handler_call_details):
                return paths.get(handler_call_details.method)

        self._server.add_generic_rpc_handlers((Methods(),))
        self._server.add_insecure_port(self.endpoint)
        self._server.start()

    def close(self):
        self._requests.put(None)
        self._pieces.put(None)
        self._server.stop(0).wait()

    # What the worker calls ------------------------------------------------------------------

    def _check(self, context):
        metadata = dict(context.invocation_metadata())
        self.metadata.append(metadata)
        if metadata.get("authorization") != f"Bearer {TOKEN}" or "worker_id" not in metadata:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "wrong token")

    def _provision(self, request, context):
        self._check(context)
        info = {"metadata": {"alink:protocol": self.protocol}, "control_endpoint": {"url": "x"}}
        return _wire.encode("GetProvisionInfoResponse", {"info": info})

    def _descriptor(self, request, context):
        self._check(context)
        id_ = _wire.decode("GetProcessBundleDescriptorRequest", request)[
            "process_bundle_descriptor_id"
        ]
        self.descriptor_calls.append(id_)
        if id_ not in self.descriptors:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no descriptor {id_}")
        return _wire.encode("ProcessBundleDescriptor", self.descriptors[id_])

    def _control(self, responses, context):
        self._check(context)
        threading.Thread(target=self._read_responses, args=(responses,), daemon=True).start()
        return iter(self._requests.get, None)

    def _read_responses(self, responses):
        with contextlib.suppress(Exception):
            for message in responses:
                response = _wire.decode("InstructionResponse", message)
                with self._changed:
                    self._answers[response["instruction_id"]] = response
                    self._changed.notify_all()

    def _data(self, messages, context):
        self._check(context)
        threading.Thread(target=self._read_data, args=(messages,), daemon=True).start()
        return iter(self._pieces.get, None)

    def _read_data(self, messages):
        with contextlib.suppress(Exception):
            for message in messages:
                for piece in _wire.decode("Elements", message)["data"]:
                    with self._changed:
                        output = self._outputs.setdefault(piece["instruction_id"], [])
                        output.append((piece["transform_id"], bytes(piece["data"])))
                        if piece["is_last"]:
                            output.append(None)
                        self._changed.notify_all()

    def _logging(self, messages, context):
        self._check(context)
        for message in messages:
            with self.logged:
                self.logs += _wire.decode("LogEntry.List", message)["log_entries"]
                self.logged.notify_all()
        yield from ()

    # What tests call ------------------------------------------------------------------------

    def request(self, kind, value, id_=None):
        """Send an instruction; return its id."""
        self._count += 1
        id_ = id_ or f"i{self._count}"
        message = {"instruction_id": id_, kind: value}
        self._requests.put(_wire.encode("InstructionRequest", message))
        return id_

    def send(self, id_, data, last=False):
        """Send bytes of a bundle's input, in pieces."""
        pieces = [data[i : i + PIECE_BYTES] for i in range(0, len(data), PIECE_BYTES)] or [b""]
        for i, part in enumerate(pieces):
            piece = {
                "instruction_id": id_,
                "transform_id": "source",
                "data": part,
                "is_last": last and i == len(pieces) - 1,
            }
            self._pieces.put(_wire.encode("Elements", {"data": [piece]}))

    def begin(self, description):
        """Start a bundle of a descriptor; return its id."""
        id_ = f"stage-{len(self.descriptors) + 1}"
        for known, other in self.descriptors.items():
            if other is description:
                id_ = known
        self.descriptors[id_] = description
        return self.request("process_bundle", {"process_bundle_descriptor_id": id_})

    def submit(self, description, batches):
        """Start a bundle and send all of its input; return its id."""
        id_ = self.begin(description)
        for batch in batches:
            self.send(id_, element(batch))
        self.send(id_, b"", last=True)
        return id_

    def answer(self, id_, seconds=ANSWER_SECONDS):
        """Wait for the response of an instruction."""
        with self._changed:
            if not self._changed.wait_for(lambda: id_ in self._answers, seconds):
                raise TimeoutError(f"no answer to {id_}")
            return self._answers.pop(id_)

    def output(self, id_, schema):
        """Wait for a bundle to succeed; return its batches."""
        response = self.answer(id_)
        if response["error"]:
            raise BundleFailed(response["error"])
        assert response.get("process_bundle") is not None
        with self._changed:
            done = self._changed.wait_for(
                lambda: (self._outputs.get(id_) or [0])[-1] is None, ANSWER_SECONDS
            )
            assert done, "the output has no end"
            *pieces, _ = self._outputs.pop(id_)
        assert {transform for transform, _ in pieces} == {"sink"}
        assert all(len(data) <= PIECE_BYTES for _, data in pieces)
        views = iter([memoryview(data) for _, data in pieces])
        return list(_elements.read_batches(lambda: next(views, None), schema))

    def run(self, kind, calls, table, output_schema, **payload):
        """Run one bundle of a table's batches; return the output as a table."""
        batches = table.to_batches() if isinstance(table, pa.Table) else [table]
        description = stage(kind, calls, table.schema, output_schema, **payload)
        id_ = self.submit(description, batches)
        return pa.Table.from_batches(self.output(id_, output_schema), output_schema)

    def wait_for_log(self, found):
        """Wait for a log entry; return it."""
        with self.logged:
            assert self.logged.wait_for(lambda: any(map(found, self.logs)), ANSWER_SECONDS), (
                self.logs
            )
            return next(entry for entry in self.logs if found(entry))


class Worker:
    """A worker process, started as the supervisor does."""

    def __init__(self, engine, folder, python=sys.executable, token=TOKEN, **launch):
        line = {"worker_id": "w1", "endpoint": engine.endpoint, "token": token, "paths": []}
        self.process: Any = subprocess.Popen(
            [python, "-I", str(BOOT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            start_new_session=True,
        )
        self.process.stdin.write(json.dumps({**line, **launch}).encode() + b"\n")
        self.process.stdin.flush()

    def close(self):
        """End the worker as a supervisor that goes away does; return its outcome."""
        if self.process.stdin and not self.process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
        return self.wait()

    def wait(self, seconds=ANSWER_SECONDS):
        """Wait for the end; return status, stdout and stderr."""
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        with self.process.stdout, self.process.stderr:
            return status, self.process.stdout.read(), self.process.stderr.read()


@pytest.fixture(scope="module")
def shared_engine():
    """An engine with one worker, for the tests of a module that leave it as it was."""
    with tempfile.TemporaryDirectory(prefix="alink-") as folder:
        engine = Engine(folder)
        worker = Worker(engine, folder)
        yield engine
        status, _, stderr = worker.close()
        engine.close()
        assert status == 0, stderr


@pytest.fixture
def engine():
    """An engine of the test's own, without a worker."""
    with tempfile.TemporaryDirectory(prefix="alink-") as folder:
        engine = Engine(folder)
        yield engine
        engine.close()


@pytest.fixture
def start(engine):
    """Start workers of the test's own engine."""
    workers = []
    with tempfile.TemporaryDirectory(prefix="alink-") as folder:

        def start(**options):
            workers.append(Worker(engine, folder, **options))
            return workers[-1]

        yield start
        for worker in workers:
            if worker.process.poll() is None:
                # Its stacks are shown with the test's failure, if it failed.
                worker.process.send_signal(signal.SIGABRT)
                print(worker.wait()[2].decode())
