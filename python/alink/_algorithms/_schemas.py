"""Columns of results and models that the client has to know before there are rows.

They stand by themselves, since the client imports them, and nothing that computes.
"""

from __future__ import annotations

import pyarrow as pa

#: What a chi-square test gives for each column.
TESTS = pa.schema([("col", pa.string()), ("chisquare_test", pa.string())])
#: A model of bins: a column's bins in each row.
BORDERS = pa.schema([("FeatureBordersJson", pa.string())])
#: A self-organizing map: its cells.
MAP = pa.schema(
    [
        ("meta", pa.string()),
        ("xidx", pa.int64()),
        ("yidx", pa.int64()),
        ("weights", pa.string()),
        ("cnt", pa.int64()),
    ]
)
#: The columns of `_pca.collinearity`, before those named as the columns are.
COLLINEARITY = ("feature_name", "vif", "tof", "eigenvalue", "condition_index")
#: What stands before the columns of a model in a stream of models.
TIMESTAMP, COUNT = "alinkmodelstreamtimestamp", "alinkmodelstreamcount"

#: The column of what candidates of a search have reached, behind those of where they are.
METRIC = "metric"

# --- one against the rest ---

#: The columns of a model beside those of its classifiers': which label, and the label.
CLASS_ID, CLASS_VALUE = "class_id", "class_value"
#: The labels that the classifiers are trained with: the row is of the class, or of the rest.
OWN, REST = 1, 0
