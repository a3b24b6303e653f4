"""``python -m alink`` is ``pyrunner``, whichever folder that was installed to."""

from __future__ import annotations

import os
import sys

from alink._errors import Error
from alink._find import find_pyrunner


def _main() -> None:
    try:
        binary = find_pyrunner()
    except Error as error:
        sys.exit(str(error))
    os.execv(binary, [binary, *sys.argv[1:]])


if __name__ == "__main__":
    _main()
