# pyarrow.compute makes its functions when it is imported, out of the library's
# table of kernels, so there is no source in which a type checker finds them.

from typing import Any

def __getattr__(name: str) -> Any: ...
