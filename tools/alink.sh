#!/bin/sh
# alink is pyrunner's other name. A shell script: a link does not survive in a
# wheel, and Python would take longer to start than the engine.
exec "$(dirname "$(readlink -f "$0")")/pyrunner" "$@"
