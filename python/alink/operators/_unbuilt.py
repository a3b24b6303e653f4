"""Operators that Alink has and that are not built yet."""

from __future__ import annotations

from typing import Any, NoReturn

from alink import _codes as codes
from alink._errors import failure
from alink._origin import user_origin

_STORE = (
    "a function with an environment of its own and the network {does}: "
    'al.map_batches(…, env=al.Environment(requirements=["{0}"]), network=True)'
)
#: What does today what an operator would, by what its name begins with.
_INSTEAD = {
    "BertTextEmbedding": "a function computes it with a checkpoint that you have: "
    'al.map_batches(…, env=al.Environment(requirements=["transformers", "torch"]), '
    'mounts={"/checkpoint": "ro"})',
    "KafkaSource": "read the topic with a client of Kafka's in the program, and give its rows to "
    "TableSourceStreamOp",
    "KafkaSink": _STORE.format("confluent-kafka", does="sends the rows"),
    "HBaseSink": _STORE.format("happybase", does="sends the rows to HBase's Thrift gateway"),
    "LookupHBase": _STORE.format(
        "happybase", does="asks HBase's Thrift gateway for a batch's rows"
    ),
}


class Unbuilt:
    """Refuses to be made."""

    def __init__(self, *_args: Any, **_params: Any) -> None:
        self.refuse(type(self).__name__)

    @staticmethod
    def refuse(name: str) -> NoReturn:
        """Raise the error that says that an operator is not built."""
        listed = "docs/operators.md lists the operators that are"
        raise failure(
            codes.INVALID_PLAN,
            f"{name} is not built yet",
            operator=name,
            source=user_origin(),
            hint=next((way for kin, way in _INSTEAD.items() if name.startswith(kin)), listed),
        )


def unbuilt(name: str) -> type[Unbuilt]:
    """Make the class that stands for an operator which is not built."""
    return type(name, (Unbuilt,), {"__module__": "alink.operators", "__doc__": "Not built yet."})
