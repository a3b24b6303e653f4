# polars is optional, and not among what the checks install.
from typing import Any

class DataFrame:
    def __getattr__(self, name: str) -> Any: ...

def __getattr__(name: str) -> Any: ...
