"""Starts a worker: ``<interpreter> -I boot.py``, with the launch line on standard input."""

from __future__ import annotations

import importlib.util
import os
import sys

PACKAGE = "alink_worker"


def load_package() -> None:
    """Load this folder as a package without making it importable to user code.

    Nothing is added to ``sys.path``, so that no module of the harness can be taken for one of
    the user's, or the other way round.
    """
    folder = os.path.dirname(os.path.abspath(__file__))
    spec = importlib.util.spec_from_file_location(
        PACKAGE, os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"the worker's package is not in {folder}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[PACKAGE] = module
    spec.loader.exec_module(module)


# A child that user code starts with multiprocessing's "spawn" runs this file again under
# another name; it must not become a worker.
if __name__ == "__main__":
    load_package()
    from alink_worker import _main  # type: ignore[import-not-found]

    _main.run()
