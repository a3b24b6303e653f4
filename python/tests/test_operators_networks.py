"""Networks of Keras's layers: what they learn and say is what Keras's own training gives."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from groups import train

import alink as al
from alink import _codes as codes
from alink._algorithms._layers import LAYER, MEASURES, parse_call
from alink._algorithms._measures import measure
from alink._algorithms._models import read_model
from alink._algorithms._networks import _SEED, read_weight
from alink._algorithms._strings import Unreadable
from alink._algorithms._tensor_columns import Tensors, read_tensors
from alink._algorithms._tensors import tensor_cell
from alink._algorithms._types import TENSOR
from alink.operators._mapping import algorithm_library
from pyalink import alink as pyalink

RANDOM = np.random.default_rng(5)
N = 60
SERIES = np.round(RANDOM.normal(size=(N, 6, 2)), 3).astype(np.float32)
WORDS = RANDOM.integers(0, 9, (N, 4))
SIDES = np.where(SERIES[:, :, 0].sum(axis=1) > 0, "right", "left")
THREE = np.array(["ant", "bee", "cät"])[SERIES[:, :, 1].sum(axis=1).argsort().argsort() % 3]
AMOUNT = WORDS.sum(axis=1) / 4.0


def cells(tensors: Any, kind: str = "FLOAT") -> list[str]:
    """Give tensors as texts."""
    shape = ",".join(map(str, tensors.shape[1:]))
    rows = tensors.reshape(len(tensors), -1).tolist()
    return [f"{kind}#{shape}#" + " ".join(map(repr, row)) for row in rows]


def batch(columns: dict[str, Any], schema: str) -> Any:
    return pyalink.BatchOperator.fromDataframe(pd.DataFrame(columns), schemaStr=schema)


def rows(tensors: Any = SERIES, label: Any = SIDES, kind: str = "FLOAT") -> Any:
    of = "string" if isinstance(label[0], str) else "double"
    return batch({"t": cells(tensors, kind), "y": label}, f"t string, y {of}")


def stage(classifier: bool = True, **given: Any) -> Any:
    known: dict[str, Any] = {
        "tensorCol": "t",
        "labelCol": "y",
        "predictionCol": "p",
        "layers": ["Flatten()"],
        "numEpochs": 2,
        **({"predictionDetailCol": "d"} if classifier else {}),
    }
    kind = pyalink.KerasSequentialClassifier if classifier else pyalink.KerasSequentialRegressor
    return kind(**{**known, **given})


def chances(frame: pd.DataFrame) -> Any:
    return pd.DataFrame([json.loads(text) for text in frame["d"]])


# --- as Keras does it ---

CASES: dict[str, tuple[list[str], Any, Any, str]] = {
    "two labels": (
        ["BatchNormalization()", "Dropout(0.25)", "Flatten()"],
        SERIES,
        SIDES,
        "Adam(learning_rate=0.05)",
    ),
    "three labels": (["Flatten()"], SERIES, THREE, "SGD(0.5, momentum=0.9)"),
    "numbers": (
        ["Embedding(9, 3)", "Flatten()", "Dense(3, kernel_regularizer=regularizers.l2(0.1))"],
        WORDS,
        AMOUNT,
        "RMSprop(ExponentialDecay(0.01, 2, 0.5))",
    ),
}


@pytest.fixture(scope="session")
def as_keras_does() -> dict[str, Any]:
    """What Keras's own training of `CASES` gives, in the same environment: weights, outputs."""
    given = {
        name: [layers, tensors.tolist(), np.unique(label, return_inverse=True)[1].tolist()
               if isinstance(label[0], str) else label.tolist(), optimizer]
        for name, (layers, tensors, label, optimizer) in CASES.items()
    }  # fmt: skip
    seed = _SEED

    def run(batches: Any) -> pa.Table:
        import json
        import os

        os.environ |= {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
        import keras  # pyright: ignore[reportMissingImports]
        import numpy as np

        found = {}
        told = json.loads(next(iter(batches)).column(0)[0].as_py())
        for name, (layers, tensors, label, optimizer) in told.items():
            keras.utils.set_random_seed(seed)
            x, y = np.array(tensors, "f4"), np.array(label)
            outputs = 3 if name == "three labels" else 1
            names = {**vars(keras.optimizers.schedules), **vars(keras.optimizers)}
            names |= {**vars(keras.layers), "regularizers": keras.regularizers}
            # The tests' own texts alone.
            made = [eval(layer, names) for layer in layers]
            model = keras.Sequential([keras.Input(x.shape[1:]), *made, keras.layers.Dense(outputs)])
            loss = {
                "two labels": keras.losses.BinaryCrossentropy(from_logits=True),
                "three labels": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                "numbers": keras.losses.MeanSquaredError(),
            }[name]
            model.compile(optimizer=eval(optimizer, names), loss=loss)
            course = model.fit(x, y, batch_size=len(x), epochs=3, shuffle=False, verbose=0)
            found[name] = {
                "losses": course.history["loss"],
                "weights": [weight.tolist() for weight in model.get_weights()],
                "outputs": model.predict(x, verbose=0).tolist(),
            }
        return pa.table({"found": [json.dumps(found)]})

    env = algorithm_library("keras")
    function = al.map_table("found string", env=env, timeout="120s")(run)
    table = al.from_arrow(pa.table({"given": [json.dumps(given)]}))
    return json.loads(table.map_table(function).to_arrow().column(0)[0].as_py())


@pytest.mark.parametrize("name", CASES)
def test_it_is_trained_as_keras_trains_it(name: str, as_keras_does: dict[str, Any]) -> None:
    layers, tensors, label, optimizer = CASES[name]
    wanted = as_keras_does[name]
    data = rows(tensors, label, "INT" if name == "numbers" else "FLOAT")
    made = stage(
        name != "numbers", layers=layers, optimizer=optimizer, batchSize=N, numEpochs=3,
        learningRate=7.0,  # the text has one
    ).fit(data)  # fmt: skip
    model = read_model(made.getModelData().toTable().to_arrow())
    np.testing.assert_allclose(model.meta["losses"], wanted["losses"], rtol=1e-4)
    weights = [read_weight(text) for text in model.data[1:]]
    for mine, theirs in zip(weights, wanted["weights"], strict=True):
        np.testing.assert_allclose(mine, np.array(theirs), rtol=2e-3, atol=2e-4)
    said = np.array(wanted["outputs"])
    frame = made.transform(data).collectToDataframe()
    if name == "numbers":
        np.testing.assert_allclose(frame["p"], said[:, 0], rtol=1e-3, atol=1e-3)
        return
    labels = sorted(set(label))
    if name == "two labels":
        said = np.concatenate([np.zeros_like(said), said], axis=1)
    odds = np.exp(said)
    found = chances(frame)
    assert list(found.columns) == labels
    np.testing.assert_allclose(found, odds / odds.sum(axis=1, keepdims=True), atol=1e-3)
    assert frame["p"].tolist() == [labels[i] for i in found.to_numpy().argmax(axis=1)]


def test_what_no_plane_divides_is_learned() -> None:
    angle = RANDOM.uniform(0, 2 * np.pi, 300)
    radius = np.where(np.arange(300) % 2, 1.0, 2.0) + RANDOM.normal(0, 0.1, 300)
    points = np.column_stack([np.cos(angle), np.sin(angle)]) * radius[:, None]
    label = np.where(np.arange(300) % 2, "inner", "outer")
    columns = {"v": [f"{x!r} {y!r}" for x, y in points.tolist()], "y": label}
    data = batch(columns, "v string, y string")
    made = stage(
        tensorCol="v", layers=["Dense(16, activation='tanh')"], numEpochs=40, batchSize=30,
        learningRate=0.03, predictionDetailCol=None,
    ).fit(data)  # fmt: skip
    frame = made.transform(data).collectToDataframe()
    assert (frame["p"] == frame["y"]).mean() > 0.97
    losses = read_model(made.getModelData().toTable().to_arrow()).meta["losses"]
    assert losses[-1] < losses[0] / 4


# --- the best state ---


def errors(frame: pd.DataFrame) -> float:
    return float((frame["p"] - frame["y"]).abs().mean())


def test_the_best_state_is_that_of_the_epoch_that_was_best() -> None:
    data = rows(SERIES, AMOUNT)
    # So large a rate overshoots: some epochs make it worse.
    given = {"optimizer": "SGD(0.09, momentum=0.9)", "batchSize": N}
    ends = [
        errors(stage(False, numEpochs=n, **given).fit(data).transform(data).collectToDataframe())
        for n in range(1, 7)
    ]
    assert min(ends) < ends[-1]
    best = {"saveBestOnly": True, "bestMetric": "MEAN_absolute_error", **given}
    frame = stage(False, numEpochs=6, **best).fit(data).transform(data).collectToDataframe()
    assert errors(frame) == pytest.approx(min(ends))
    rare = stage(False, numEpochs=6, saveCheckpointsEpochs=4.0, **best).fit(data)
    assert errors(rare.transform(data).collectToDataframe()) == pytest.approx(min(ends[3], ends[5]))


def test_measures_are_as_they_are_defined() -> None:
    real, odds = np.array([1, 0, 1, 0, 1]), np.array([2.0, -1.0, -0.5, 0.5, 0.5])[:, None]
    chance = 1 / (1 + np.exp(-odds[:, 0]))
    wanted = {
        "loss": np.mean(np.log(np.where(real == 1, chance, 1 - chance))),
        "auc": (2 + 1 + 1.5) / 6,
        "precision": 2 / 3,
        "recall": 2 / 3,
        "binary_accuracy": 3 / 5,
        "false_negatives": -1,
        "false_positives": -1,
        "true_negatives": 1,
        "true_positives": 2,
    }
    assert list(wanted) == ["loss", *MEASURES["two"]]
    for name, value in wanted.items():
        assert measure(name, "two")(real[:, None], odds) == pytest.approx(value), name
    one = np.ones(2)
    assert measure("precision", "two")(one, -np.ones((2, 1))) == 0
    assert measure("auc", "two")(one, np.ones((2, 1))) == 0
    outputs = np.log([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]]) + 3
    accuracy = measure("sparse_categorical_accuracy", "more")
    assert accuracy(np.array([0, 1]), outputs) == 0.5
    loss = measure("loss", "more")(np.array([0, 1]), outputs)
    assert loss == pytest.approx(np.log([0.5, 0.2]).mean())
    numbers, said = np.array([1.0, 4.0]), np.array([[2.0], [2.0]])
    for name, value in {
        "loss": 2.5,
        "mean_absolute_error": 1.5,
        "mean_absolute_percentage_error": 75.0,
        "mean_squared_error": 2.5,
        "mean_squared_logarithmic_error": np.mean(np.log([2 / 3, 5 / 3]) ** 2),
        "root_mean_squared_error": 2.5**0.5,
    }.items():
        assert measure(name, "numbers")(numbers[:, None], said) == pytest.approx(-value), name


def test_rows_of_the_validation_train_nothing() -> None:
    held = np.random.default_rng(_SEED).permutation(N)[: N // 2]
    other = AMOUNT.copy()
    other[held] += 7
    one, same = (
        stage(False, validationSplit=0.5).fit(rows(SERIES, label)).getModelData().toTable()
        for label in (AMOUNT, other)
    )
    assert one.to_arrow() == same.to_arrow()


# --- prediction ---


def test_rows_are_predicted_alike_in_any_number_and_form() -> None:
    made = stage().fit(rows())
    wanted = made.transform(rows()).collectToDataframe()
    few = made.setInferBatchSize(7).transform(rows()).collectToDataframe()
    np.testing.assert_allclose(chances(few), chances(wanted), rtol=1e-5)
    doubles = made.transform(rows(kind="DOUBLE")).collectToDataframe()
    np.testing.assert_allclose(chances(doubles), chances(wanted), rtol=1e-5)
    tensors = pyalink.ToTensorBatchOp(selectedCol="t", tensorDataType="FLOAT").linkFrom(rows())
    assert made.transform(tensors).select("p").collectToDataframe()["p"].tolist() == [*wanted["p"]]
    holes = pd.DataFrame({"t": [None, *cells(SERIES[:2]), "FLOAT#6,2#" + "NaN " * 12], "y": "left"})
    frame = made.transform(
        pyalink.BatchOperator.fromDataframe(holes, schemaStr="t string, y string")
    ).collectToDataframe()
    assert frame["p"].isna().tolist() == frame["d"].isna().tolist() == [True, False, False, True]
    assert frame["p"][1:3].tolist() == wanted["p"][:2].tolist()


def test_operators_agree_with_the_stage() -> None:
    given = {"tensorCol": "t", "labelCol": "y", "layers": ["Flatten()"], "numEpochs": 2}
    trained = pyalink.KerasSequentialRegressorTrainBatchOp(**given).linkFrom(rows(SERIES, AMOUNT))
    # A job of its own, whose worker the next one has too.
    model = pyalink.BatchOperator.fromTable(trained.toTable().cache())
    asked = {"predictionCol": "p", "reservedCols": ["y"]}
    one = pyalink.KerasSequentialRegressorPredictBatchOp(**asked).linkFrom(
        model, rows(SERIES, AMOUNT)
    )
    staged = stage(False, reservedCols=["y"]).fit(rows(SERIES, AMOUNT))
    frames = [one, staged.transform(rows(SERIES, AMOUNT))]
    first, second = (frame.collectToDataframe() for frame in frames)
    assert list(first.columns) == ["y", "p"]
    pd.testing.assert_frame_equal(first, second)
    stream = pyalink.KerasSequentialRegressorPredictStreamOp(model, **asked).linkFrom(
        pyalink.StreamOperator.fromTable(rows(SERIES, AMOUNT).toTable())
    )
    pd.testing.assert_frame_equal(stream.collectToDataframe(), first)


# --- what is refused ---


def refused(made: Any, data: Any = None) -> str:
    with pytest.raises(al.UdfError) as error:
        made.fit(rows() if data is None else data).getModelData().collectToDataframe()
    assert error.value.diagnostic.code == codes.ROWS_REFUSED
    return error.value.diagnostic.message


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (["Flaten()"], "Keras has no layer 'Flaten': did you mean 'Flatten'?"),
        (["Dense(unitz=3)"], "Dense has no argument 'unitz': did you mean 'units'?"),
        (["Dense(3, activation='relo')"], "relo"),
        (["Lambda(3)"], "Lambda runs code, which a text cannot bring"),
        (["L2(3)"], "Keras has no layer 'L2'"),
        (["TimeDistributed(Dence(3))"], "Keras has no object 'Dence': did you mean 'Dense'?"),
        (["Conv1D(4, 9)"], r"'Conv1D(4, 9)' cannot follow tensors of shape [6, 2]: "),
        (["Dense(3)"], 'shape [6, 3] where rows of numbers are needed: add "Flatten()"'),
        (["Reshape((5, 5))"], "'Reshape((5, 5))' cannot follow tensors of shape [6, 2]"),
    ],
)
def test_layers_that_are_none_are_told(layers: list[str], message: str) -> None:
    assert message in refused(stage(layers=layers))


def test_optimizers_and_measures_that_are_none_are_told() -> None:
    assert "no optimizer 'Adma': did you mean 'Adamax' or 'Adam'?" in refused(
        stage(optimizer="Adma()")
    )
    assert "did you mean 'momentum'" in refused(stage(optimizer="SGD(momentom=0.1)"))
    best = {"saveBestOnly": True, "bestMetric": "auc"}
    assert "of more than two labels there are: loss, sparse_categorical_accuracy" in refused(
        stage(**best), rows(label=THREE)
    )


def test_rows_that_no_network_learns_from_are_told() -> None:
    texts = cells(SERIES)
    schema = "t string, y string"
    assert "'y' has 1 value where 2 or more are needed: 'left'" in refused(
        stage(), batch({"t": texts, "y": "left"}, schema)
    )
    assert "the label 'y' is NULL" in refused(
        stage(), batch({"t": texts, "y": [None, *SIDES[1:]]}, schema)
    )
    assert "the tensor 't' is NULL" in refused(
        stage(), batch({"t": [None, *texts[1:]], "y": SIDES}, schema)
    )
    assert "[6, 2] and [3]: bring them to one" in refused(
        stage(), batch({"t": [*texts[1:], "FLOAT#3#1 2 3"], "y": SIDES}, schema)
    )
    assert "NaN or infinite" in refused(
        stage(), batch({"t": ["FLOAT#6,2#" + "NaN " * 12, *texts[1:]], "y": SIDES}, schema)
    )
    assert "there are no rows to train with" in refused(stage(), rows().filter("y = 'up'"))
    assert "column 't'" in refused(stage(), batch({"t": "a", "y": SIDES}, schema))
    assert "the loss is" in refused(
        stage(False, optimizer="SGD(1e30)", numEpochs=4), rows(SERIES * 1e9, AMOUNT)
    )


def test_tensors_of_another_shape_are_not_predicted() -> None:
    made = stage(numEpochs=1).fit(rows())
    other = made.transform(rows(SERIES[:, :3]))
    with pytest.raises(al.UdfError, match=r"shape \[3, 2\], the model takes \[6, 2\]"):
        other.collectToDataframe()
    with pytest.raises(al.UdfError, match="there is no column 't'"):
        made.transform(batch({"x": ["1 2"]}, "x string")).collectToDataframe()
    with pytest.raises(al.PlanError, match="no model of a classifier"):
        pyalink.KerasSequentialClassifierPredictBatchOp(predictionCol="p").linkFrom(
            stage(False).fit(rows(SERIES, AMOUNT)).getModelData(), rows()
        )
    with pytest.raises(al.PlanError, match="a classifier's, not a regression's"):
        pyalink.KerasSequentialRegressorPredictBatchOp(predictionCol="p").linkFrom(
            made.getModelData(), rows()
        )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"layers": ["Dense"]}, "'Dense' is no call"),
        ({"layers": ["Dense(3"]}, "is no call"),
        ({"layers": ["Dense(3, activation=tf.nn.relu)"]}, "write activation='relu'"),
        ({"layers": ["Dense(*[3])"]}, "which is no literal"),
        ({"layers": ["Dense(**{'units': 3})"]}, "an argument with stars"),
        ({"layers": ["__import__('os').system('true')"]}, "which is no name"),
        ({"optimizer": "adam"}, 'write "Adam(learning_rate=0.01)"'),
        ({"bestMetric": "acc"}, "bestMetric"),
        ({"numEpochs": 0}, '"numEpochs" cannot be 0'),
        ({"validationSplit": 1.0}, '"validationSplit" cannot be 1.0'),
        ({"removeCheckpointBeforeTraining": False}, "leaves no checkpoints to go on from"),
        ({"learningRate": -1.0}, '"learningRate" cannot be -1.0'),
        ({"tensorCol": "y"}, "both tensorCol and labelCol"),
        ({"tensorCol": "b"}, "of type BOOLEAN"),
    ],
)
def test_parameters_are_checked_before_anything_runs(given: Any, message: str) -> None:
    data = batch({"t": ["1 2"], "y": ["a"], "b": [True]}, "t string, y string, b boolean")
    with pytest.raises(al.PlanError) as error:
        stage(**given).fit(data)
    assert message in str(error.value)


def test_a_regressions_label_is_a_number() -> None:
    with pytest.raises(al.PlanError, match="a regression's label is a number"):
        stage(False).fit(rows())


# --- texts and columns, here ---


def test_calls_are_read_with_their_literals() -> None:
    call = parse_call("tf.keras.layers.Conv1D(256, -5.5, padding='é', k=[(1, None), True])", LAYER)
    assert (call.name, call.args) == ("Conv1D", (256, -5.5))
    assert call.named == {"padding": "é", "k": [(1, None), True]}
    inner = parse_call(" Bidirectional(LSTM(3), merge_mode = 'sum') ", LAYER).args[0]
    assert (inner.name, inner.args) == ("LSTM", (3,))
    for text in ["", "3", "a.b", "(lambda: 1)()", "f(g())()", "f(x for x in y)", "f(1) + f(2)"]:
        with pytest.raises(Unreadable):
            parse_call(text, LAYER)
    with pytest.raises(Unreadable):
        parse_call("f(" * 5000 + ")" * 5000, LAYER)


def column(*tensors: tuple[str, list[int], list[Any]] | None) -> pa.RecordBatch:
    made = [None if tensor is None else tensor_cell(*tensor) for tensor in tensors]
    return pa.record_batch([pa.array(made, TENSOR)], names=["t"])


def test_tensors_are_read_where_they_lie_and_by_rows() -> None:
    given = column(*(("FLOAT", [2, 1], [i, -i]) for i in range(9)))
    found = train(lambda group: Tensors(group, "t"), pa.table(given)[2:8], batch_rows=4)
    assert found.shape == (2, 1)
    np.testing.assert_array_equal(found.take(np.array([5, 0, 4]))[:, 0, 0], [7, 2, 6])
    mixed = column(
        ("DOUBLE", [2], [0.5, 1.5]), None, ("BOOLEAN", [2], [True, False]), ("BYTE", [2], [-1, 3])
    )
    values, missing = read_tensors(mixed, "t", (2,))
    assert missing.tolist() == [False, True, False, False]
    np.testing.assert_array_equal(values, [[0.5, 1.5], [0, 0], [1, 0], [-1, 3]])
    sliced, missing = read_tensors(mixed.slice(2), "t", (2,))
    np.testing.assert_array_equal(sliced, [[1, 0], [-1, 3]])
    scalar, _ = read_tensors(column(("LONG", [], [7])), "t", (1,))
    np.testing.assert_array_equal(scalar, [[7.0]])
    for wrong in [
        ("FLOAT", [1], [1.0]),
        ("FLOAT", [2, 1], [1.0, 2.0]),
        ("STRING", [2], ["a", "b"]),
    ]:
        with pytest.raises(Unreadable):
            read_tensors(column(("FLOAT", [2], [1.0, 2.0]), wrong), "t", (2,))
    nothing, missing = read_tensors(column(None), "t", (3, 2))
    assert nothing.shape == (1, 3, 2)
    assert missing.all()
    numbers = pa.record_batch([pa.array([1.5, None])], names=["t"])
    np.testing.assert_array_equal(read_tensors(numbers, "t", (1,))[0], [[1.5], [0.0]])
