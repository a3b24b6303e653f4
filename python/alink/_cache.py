"""Tables that the engine keeps once they have been computed."""

from __future__ import annotations

import threading
import uuid
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alink._engine import Engine
    from alink._plan import Node


class KeptTable:
    """A table that the first job that needs it computes, and that later jobs read.

    It lives in the engine, in memory up to a limit and then in files, until no table of the
    client refers to it any more.
    """

    def __init__(self) -> None:
        self.name = f"k-{uuid.uuid4().hex}"
        self._kept = False
        self._lock = threading.Lock()

    def ensure(self, engine: Engine, node: Node) -> None:
        """Compute the rows of `node` unless they are there. Waits for their job.

        A job that fails or is cancelled leaves nothing, and the next use computes anew.
        """
        from alink._job import Job
        from alink._plan import Node

        with self._lock:
            if self._kept:
                return
            sink = Node("keep_table", node.inputs, {"table": self.name}, node.origin)
            Job(engine, sink, ahead=True).result()
            self._kept = True
            # As for uploads: a finalizer must neither block nor call into an engine.
            weakref.finalize(self, engine.dropped.put, self.name).atexit = False
