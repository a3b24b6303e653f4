"""The worker: runs Python functions on Arrow batches for the engine.

The package is loaded by ``boot.py`` under the name ``alink_worker`` and imports only the
standard library, pyarrow and grpcio (and numpy where a function takes numpy arrays). It never
imports the client. What a module is for stands in its first lines; the path of a bundle is
``_main`` → ``_bundle`` → ``_calls`` → ``_values``/``_arrays``, with ``_data`` on both ends.
"""
