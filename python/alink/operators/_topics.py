"""Topics of documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pyarrow as pa

from alink._algorithms._models import model_schema
from alink._algorithms._types import type_name
from alink._diag import quote
from alink._options import bad_option, find_column
from alink._table import Table
from alink.operators._clustering import check_counts, predicted
from alink.operators._define import build, one_of
from alink.operators._model_details import LdaModelInfo
from alink.operators._model_info import WithModelInfo
from alink.operators._training import Trained, Training, trained

_DOC = (
    "Latent Dirichlet allocation, by expectation and maximization (method EM) or on samples of "
    "the documents (online). Documents are texts of words with blanks between them."
)
#: What is above 0, and may not be above the second number.
_POSITIVE = {"onlineLearningOffset": None, "learningDecay": None, "subsamplingRate": 1.0}


def _checked(name: str, params: Mapping[str, Any], schema: pa.Schema) -> dict[str, Any]:
    given = dict(params)
    check_counts(name, given)
    column = find_column(name, schema, given["selectedCol"])
    kind = schema.field(column).type
    if not pa.types.is_string(kind):
        raise bad_option(
            name,
            f"{name}: column {quote(column)} is {type_name(kind)}",
            "it takes texts of words with blanks between them, as Segment and Tokenizer give them",
        )
    given["method"] = one_of(name, "method", given["method"], ("EM", "Online"))
    for parameter in ("alpha", "beta"):
        if given[parameter] != -1 and not given[parameter] > 0:
            raise bad_option(
                name,
                f"{name}: {quote(parameter)} cannot be {given[parameter]}",
                "it is above 0, or -1 for a default that hangs on topicNum",
            )
    for parameter, most in _POSITIVE.items():
        value = given[parameter]
        if not value > 0 or (most is not None and value > most):
            limit = "above 0" + ("" if most is None else f" and at most {most:g}")
            raise bad_option(
                name, f"{name}: {quote(parameter)} cannot be {value}", f"it is {limit}"
            )
    return given


class _Train(WithModelInfo):
    """Trains topics; side outputs are the words with the topics' shares, and measures."""

    _trained: ClassVar[Trained]

    def _link(self) -> Table:
        params = self._all()
        model = self._trained.fit(self._name, params, [self._inputs[0]._table()])
        shares = [(f"topic_{k}", pa.float64()) for k in range(params["topicNum"])]
        words = pa.schema([("word", pa.string()), *shares])
        measures = pa.schema([("logPerplexity", pa.float64()), ("logLikelihood", pa.float64())])
        names = model_schema().names
        self._side_outputs = [
            model._train(Training(self._name, task, {}, names, schema, alone=True))
            for task, schema in (("_topics.words", words), ("_topics.measures", measures))
        ]
        return model


def declare() -> None:
    """Declare the operators of this module."""
    definition = Trained(
        "Lda",
        "_topics.train",
        "_topics.Predict",
        predicted(predictionDetailCol=pa.string()),
        ["selectedCol"],
        applied=["selectedCol"],
        prepare=_checked,
        info=LdaModelInfo,
        doc=_DOC,
    )
    trained(definition)
    build(
        "LdaTrainBatchOp",
        _Train,
        _DOC,
        _trained=definition,
        _info=staticmethod(LdaModelInfo),
        _train_info=staticmethod(LdaModelInfo),
    )
