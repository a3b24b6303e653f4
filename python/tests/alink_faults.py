"""Recorded results that are plainly faults of Alink: those cases fail here, and should."""

from __future__ import annotations

_LOST = "with vectorSize, columns whose names are no numbers are left out: the vector is empty"

_NO_MINIMUM = (
    "the recorded coefficients are no minimum of a penalised objective: the residuals are "
    "correlated with a feature against the sign of its coefficient"
)

_LASSO = (
    "the recorded coefficients are no minimum of a penalised objective, with or without scaled "
    "features, label or a penalised intercept: the residuals' mean is neither 0 nor a penalty"
)

_SUPPORT = (
    "the recorded numbers are least squares, as if there were neither tau nor C: with C missing "
    "the residuals of LinearSvr are orthogonal to the features to five digits"
)

_GAMMA = (
    "the recorded aic takes the scale of the Gamma distribution for its rate: with the scale it is "
    "13.42, by the density with that scale; all other figures are equal"
)

_CHANCE = "no fault: how many rows there are hangs on Alink's random numbers too"

_LEAF_SIZE = (
    "leaves of 2 rows where minSamplesPerLeaf is 100, the default that is documented and that "
    "the trainings keep; with 2 the result is the recorded one"
)

_MILLISECONDS = (
    "the recorded times have lost their milliseconds: those of 1 to 10 ms after 1970 began are all "
    "shown as 00:00:00.0; all other values are equal"
)

FAULTS: dict[str, str] = {
    "GbdtRegEncoder": _LEAF_SIZE,
    "ColumnsToVector": _LOST,
    "CsvToVector": _LOST,
    "CsvToVectorBatchOp": _LOST,
    "CsvToVectorStreamOp": _LOST,
    "GlmPredictStreamOp": _GAMMA,
    "OverCountWindowStreamOp": _MILLISECONDS,
    "OverTimeWindowStreamOp": _MILLISECONDS,
    "RidgeRegression": _NO_MINIMUM,
    "LassoRegression": _LASSO,
    "LinearSvr": _SUPPORT,
    "LinearSvrPredictBatchOp": _SUPPORT,
    "LinearSvrPredictStreamOp": _SUPPORT,
    "LassoRegPredictBatchOp": _LASSO,
    "LassoRegPredictStreamOp": _LASSO,
    "SampleBatchOp": _CHANCE,
    "SampleStreamOp": _CHANCE,
    "StratifiedSampleStreamOp": _CHANCE,
}
