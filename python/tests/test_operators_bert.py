"""BERTs: pieces, tensors and slopes are those of Hugging Face's transformers and of PyTorch.

What these make of the tiny BERT is recorded, by bert_recorded.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from bert_recorded import BATCH, EPOCHS, FILE, LABELS, LENGTHS, PAIRS, RATE, WARM
from berts import CONFIG, PIECES, random_tensors, safetensors, write_bert

import alink as al
from alink import _codes as codes
from alink._algorithms._checkpoints import Checkpoint
from alink._algorithms._models import Model, read_model, write_model
from alink._algorithms._networks import read_weight, weight_text
from alink._algorithms._strings import Unreadable
from alink._algorithms._wordpieces import WordPieces
from pyalink import alink as pyalink

RECORDED = json.loads(FILE.read_text(encoding="utf-8"))
CLASSES = np.array(["ant", "bee", "cät"])
GOOD = ["good film", "very good", "good!", "not bad film, good", "文 好", "good good dog"]
BAD = ["bad film", "very bad", "bad!", "not film, bad", "文 坏", "bad bad dog"]
NEITHER = ["film", "cat, ant", "dog!", "bee film ants", "文", "dog dog cat"]
MOST, INFER = LENGTHS[0], 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: Any) -> Path:
    """A BERT of which the files are links, as Hugging Face's cache has them."""
    room = tmp_path_factory.mktemp("bert")
    write_bert(room / "blobs", prefix="bert.")
    (room / "Tiny").mkdir()
    for path in (room / "blobs").iterdir():
        (room / "Tiny" / path.name).symlink_to(path)
    return room / "Tiny"


def batch(columns: dict[str, Any], schema: str) -> Any:
    return pyalink.BatchOperator.fromDataframe(pd.DataFrame(columns), schemaStr=schema)


def opinions(label: Any = None) -> Any:
    label = [of for of in "+-0" for _ in GOOD] if label is None else label
    of = "string" if isinstance(label[0], str) else "double"
    return batch({"t": GOOD + BAD + NEITHER, "y": label}, f"t string, y {of}")


def stage(folder: Any, kind: str = "TextClassifier", **given: Any) -> Any:
    known: dict[str, Any] = {
        "textCol": "t",
        "labelCol": "y",
        "predictionCol": "p",
        "bertModelName": str(folder),
        # One shape for all tests: each takes seconds to compile.
        "maxSeqLength": MOST,
        "batchSize": BATCH,
        "inferBatchSize": INFER,
        "numEpochs": 12.0,
        "learningRate": 0.02,
        "customConfigJson": '{"model_config": {"dropout_rate": 0}}',
        **({"predictionDetailCol": "d"} if kind.endswith("Classifier") else {}),
    }
    return getattr(pyalink, f"Bert{kind}")(**{**known, **given})


def model_of(made: Any) -> Model:
    return read_model(made.getModelData().toTable().to_arrow())


def tensors_of(model: Model) -> list[Any]:
    return [read_weight(text) for text in model.data[2:]]


def chances(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame([json.loads(text) for text in frame["d"]])


# --- as Hugging Face has it ---


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("most", LENGTHS)
def test_texts_are_cut_as_transformers_cuts_them(lowercase: bool, most: int) -> None:
    pieces = WordPieces(PIECES, lowercase)
    found = [list(pieces.encode(*texts, most)) for texts in PAIRS]
    assert found == RECORDED["pieces"][f"{lowercase} {most}"]


def test_of_texts_that_are_as_long_the_second_is_cut_more() -> None:
    pieces = WordPieces(PIECES, True)
    good, bad = (pieces.ids(word)[0] for word in ("good", "bad"))
    ids, first = pieces.encode("good " * 9, "bad " * 9, 8)
    assert (first, ids.count(good), ids.count(bad)) == (5, 3, 2)
    ids, first = pieces.encode("good " * 2, "bad " * 9, 8)
    assert (first, ids.count(good), ids.count(bad)) == (4, 2, 3)
    with pytest.raises(Unreadable, match=r"no \[CLS\]"):
        WordPieces(["[PAD]", "[UNK]", "[SEP]", "good"], True)


def test_what_a_bert_says_is_what_transformers_says(folder: Path) -> None:
    # Differences of logarithms of chances are those of what the head makes of the pooled values.
    config = Checkpoint(files_of(folder)).config
    head = np.random.default_rng(3).normal(size=(len(CLASSES), config.hidden)).astype(np.float32)
    weights = [*random_tensors(CONFIG).values(), head, np.zeros(len(head), np.float32)]
    texts = [json.dumps(config._asdict()), json.dumps(PIECES), *map(weight_text, weights)]
    rows = batch({"t": [t for t, _ in PAIRS], "u": [u for _, u in PAIRS]}, "t string, u string")
    asked = {"predictionCol": "p", "predictionDetailCol": "d", "inferBatchSize": INFER}
    for second in (None, "u"):
        meta = {"textCol": "t", "textPairCol": second, "maxSeqLength": MOST, "doLowerCase": True}
        table = write_model(Model(meta, texts, CLASSES.tolist()), pa.string())
        frame = (
            pyalink.BertTextClassifierPredictBatchOp(**asked)
            .linkFrom(pyalink.BatchOperator.fromTable(al.from_arrow(table)), rows)
            .collectToDataframe()
        )
        alone = [pair is None for _, pair in PAIRS]
        meant = np.flatnonzero(alone if second is None else np.invert(alone))
        found = np.log(chances(frame.iloc[meant]).to_numpy())
        wanted = np.array(RECORDED["pooled"])[meant] @ head.T
        assert np.ptp(wanted) > 1
        np.testing.assert_allclose(found - found[:, :1], wanted - wanted[:, :1], atol=1e-4)


def test_it_is_trained_as_pytorch_trains_it(folder: Path) -> None:
    texts = [text for text, _ in PAIRS[: len(LABELS)]]
    data = batch({"t": texts, "y": CLASSES[LABELS]}, "t string, y string")
    made = stage(
        folder, numEpochs=float(EPOCHS), learningRate=RATE,
        customConfigJson=json.dumps(
            {
                "model_config": {"dropout_rate": 0},
                "train_config": {"optimizer_config": {"warmup_ratio": WARM}},
            }
        ),
    ).fit(data)  # fmt: skip
    np.testing.assert_allclose(model_of(made).meta["losses"], RECORDED["losses"], rtol=1e-4)
    found = chances(made.transform(data).collectToDataframe())
    assert list(found.columns) == [*CLASSES]
    np.testing.assert_allclose(found, RECORDED["chances"], atol=1e-3)


# --- training and prediction ---


def test_opinions_are_told_apart_and_other_layers_stay(folder: Path) -> None:
    made = stage(folder).fit(opinions())
    frame = made.transform(opinions()).collectToDataframe()
    assert len(frame) > 3 * INFER
    assert (frame["p"] == frame["y"]).mean() > 0.9
    model = model_of(made)
    assert model.labels == ["+", "-", "0"]
    for (name, before), now in zip(random_tensors(CONFIG).items(), tensors_of(model), strict=False):
        changed = name.startswith(("encoder.layer.1.", "pooler."))
        # A key's bias moves all scores of a query alike: nothing hangs on it.
        if not name.endswith("key.bias"):
            assert (before != now).any() == changed, name


def test_operators_agree_with_the_stage(folder: Path) -> None:
    pairs = [*zip(GOOD, BAD, strict=True), *zip(GOOD, GOOD, strict=True)]
    columns = {
        "t": [a for a, _ in pairs],
        "u": [b for _, b in pairs],
        "y": [0.0] * len(GOOD) + [1.0] * len(GOOD),
    }
    data = batch(columns, "t string, u string, y double")
    given = {"textPairCol": "u", "numFineTunedLayers": 0, "numEpochs": 60.0}
    made = stage(folder, "TextPairRegressor", **given)
    applied = {"predictionCol", "inferBatchSize"}
    of_training = {k: v for k, v in made.getParams().items() if k not in applied}
    trained = pyalink.BertTextPairRegressorTrainBatchOp(**of_training).linkFrom(data)
    model = pyalink.BatchOperator.fromTable(trained.toTable().cache())
    asked = {"predictionCol": "p", "inferBatchSize": INFER, "reservedCols": ["y"]}
    one = pyalink.BertTextPairRegressorPredictBatchOp(**asked).linkFrom(model, data)
    first = one.collectToDataframe()
    assert list(first.columns) == ["y", "p"]
    low, high = first["p"][: len(GOOD)], first["p"][len(GOOD) :]
    assert low.mean() + 0.4 < high.mean()
    stream = pyalink.BertTextPairRegressorPredictStreamOp(model, **asked).linkFrom(
        pyalink.StreamOperator.fromTable(data.toTable())
    )
    pd.testing.assert_frame_equal(stream.collectToDataframe(), first)
    staged = made.setReservedCols(["y"]).fit(data).transform(data).collectToDataframe()
    pd.testing.assert_frame_equal(staged, first)
    # Nothing but pooler and head were trained.
    before, now = random_tensors(CONFIG), tensors_of(read_model(trained.toTable().to_arrow()))
    changed = [n for (n, a), b in zip(before.items(), now, strict=False) if (a != b).any()]
    assert changed == ["pooler.dense.weight", "pooler.dense.bias"]


def test_a_row_is_predicted_alike_among_any_others(folder: Path) -> None:
    made = stage(folder, numEpochs=1.0).fit(opinions())
    wanted = made.transform(opinions()).collectToDataframe()
    texts = [None, BAD[1], "", BAD[0], "film " * 40]
    frame = made.transform(batch({"t": texts}, "t string")).collectToDataframe()
    assert frame["p"].isna().tolist() == frame["d"].isna().tolist() == [True] + [False] * 4
    assert frame["d"][[1, 3]].tolist() == wanted["d"][[len(GOOD) + 1, len(GOOD)]].tolist()


def test_a_part_of_an_epoch_is_whole_steps(folder: Path, monkeypatch: Any) -> None:
    # Below the folder of plugins a name is enough, as Alink's programs have it.
    monkeypatch.setitem(pyalink.AlinkGlobalConfiguration._values, "PluginDir", str(folder.parent))
    for epochs, number in ((0.01, 1), (1.0, 1), (1.1, 2)):
        made = stage("Tiny", numEpochs=epochs).fit(opinions())
        assert len(model_of(made).meta["losses"]) == number


# --- what is refused ---


def refused(made: Any, data: Any) -> str:
    with pytest.raises(al.UdfError) as error:
        made.fit(data).getModelData().collectToDataframe()
    assert error.value.diagnostic.code == codes.ROWS_REFUSED
    return error.value.diagnostic.message


def test_rows_that_no_bert_learns_from_are_told(folder: Path) -> None:
    schema = "t string, y string"
    assert "'y' has 1 value where 2 or more are needed" in refused(
        stage(folder), batch({"t": GOOD, "y": "+"}, schema)
    )
    assert "the text 't' is NULL in a row of the training" in refused(
        stage(folder), batch({"t": [None, *GOOD[1:]], "y": ["+", "-"] * 3}, schema)
    )
    assert "the label 'y' is NULL" in refused(
        stage(folder), batch({"t": GOOD, "y": [None, *"+-+-+"]}, schema)
    )
    assert "'maxSeqLength' is 129, and the BERT" in refused(
        stage(folder, maxSeqLength=129), opinions()
    )
    assert "the loss is" in refused(
        stage(folder, "TextRegressor", numFineTunedLayers=0), opinions([1e30] * 18)
    )


def test_models_and_columns_that_are_others_are_told(folder: Path) -> None:
    made = stage(folder, numEpochs=1.0).fit(opinions())
    with pytest.raises(al.UdfError, match="there is no column 't'"):
        made.transform(batch({"x": ["a"]}, "x string")).collectToDataframe()
    with pytest.raises(al.PlanError, match="a classifier's, not a regression's"):
        pyalink.BertTextRegressorPredictBatchOp(predictionCol="p").linkFrom(
            made.getModelData(), opinions()
        )
    bayes = pyalink.NaiveBayesTrainBatchOp(featureCols=["t"], labelCol="y").linkFrom(opinions())
    other = pyalink.BertTextClassifierPredictBatchOp(predictionCol="p").linkFrom(bayes, opinions())
    with pytest.raises(al.UdfError, match="the model has no 'textCol': it is of another kind"):
        other.collectToDataframe()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"textCol": "y"}, "of type DOUBLE"),
        ({"textCol": "z"}, '"z"'),
        ({"numEpochs": 0.0}, '"numEpochs" cannot be 0'),
        ({"maxSeqLength": 2}, '"maxSeqLength" cannot be 2'),
        ({"learningRate": float("inf")}, '"learningRate" cannot be inf'),
        ({"numFineTunedLayers": -1}, '"numFineTunedLayers" cannot be -1'),
        ({"removeCheckpointBeforeTraining": False}, "leaves no checkpoints to go on from"),
        ({"customConfigJson": "{"}, "customConfigJson is not JSON"),
        ({"customConfigJson": "[]"}, "customConfigJson is no object"),
        (
            {"customConfigJson": '{"train_config": {"optimizer": "sgd"}}'},
            '"train_config.optimizer"',
        ),
        ({"customConfigJson": '{"train_config": 3}'}, '"train_config", which is not known'),
        ({"customConfigJson": '{"model_config": {"dropout_rate": "0"}}'}, "cannot be '0'"),
        ({"customConfigJson": '{"model_config": {"dropout_rate": 1}}'}, '"dropoutRate" cannot be'),
        (
            {"bertModelName": "Base-Chinese"},
            "Hugging Face's google-bert/bert-base-chinese has them",
        ),
    ],
)
def test_parameters_are_checked_before_anything_runs(
    folder: Path, given: Any, message: str
) -> None:
    data = batch({"t": ["a"], "y": [1.0]}, "t string, y double")
    with pytest.raises(al.PlanError) as error:
        stage(folder, **given).fit(data)
    assert message in str(error.value)


def test_a_regressions_label_is_a_number(folder: Path) -> None:
    with pytest.raises(al.PlanError, match="a regression's label is a number"):
        stage(folder, "TextRegressor").fit(opinions())


def test_a_pickle_is_never_read(tmp_path: Path) -> None:
    path = write_bert(tmp_path)
    (path / "model.safetensors").rename(path / "pytorch_model.bin")
    with pytest.raises(al.PlanError, match=r"there is no model\.safetensors") as error:
        stage(path).fit(opinions())
    assert "pytorch_model.bin is a pickle" in str(error.value)


# --- folders ---


def files_of(folder: Path) -> dict[str, str]:
    return {path.name: str(path) for path in folder.iterdir()}


def rewritten(change: Callable[[dict[str, Any]], Any], kind: str = "F32") -> Callable[[Path], Any]:
    """Give what writes the tensors anew, changed."""

    def write(folder: Path) -> None:
        tensors = random_tensors(CONFIG)
        change(tensors)
        (folder / "model.safetensors").write_bytes(safetensors(tensors, kind))

    return write


def configured(**given: Any) -> Callable[[Path], Any]:
    return lambda f: (f / "config.json").write_text(json.dumps({**CONFIG, **given}))


def written(name: str, content: bytes) -> Callable[[Path], Any]:
    return lambda f: (f / name).write_bytes(content)


QUERY = "encoder.layer.1.attention.self.query.weight"
WHOLE = safetensors(random_tensors(CONFIG))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rewritten(lambda t: t.pop(QUERY)), f"model.safetensors has no tensor {QUERY}"),
        (rewritten(lambda t: t.update({QUERY: np.zeros((32, 31), "f4")})), "[32, 31], and config"),
        (rewritten(lambda t: t.update({QUERY: np.full((32, 32), np.nan, "f4")})), "no numbers"),
        (rewritten(lambda t: None, "I32"), "has 'I32', not floats"),
        (rewritten(lambda t: None, "F64"), "it has not all of"),
        (written("model.safetensors", WHOLE[:-1]), "it has not all of pooler.dense.bias"),
        (written("model.safetensors", WHOLE[:50]), "is cut off, or no file of the form"),
        (written("model.safetensors", b""), "is cut off, or no file of the form"),
        (written("model.safetensors", b"\x80\x04}q\x00." * 9), "is cut off, or no file"),
        (written("model.safetensors", (9).to_bytes(8, "little") + b"x" * 9), "is not JSON"),
        (configured(model_type="roberta"), "a model of type 'roberta', not of a BERT"),
        (configured(hidden_act="relu"), "has hidden_act 'relu'"),
        (configured(position_embedding_type="relative_key"), "position_embedding_type"),
        (configured(num_hidden_layers=3), "no tensor encoder.layer.2.attention.self.query"),
        (configured(num_hidden_layers=True), "has num_hidden_layers True"),
        (configured(num_attention_heads=5), "which 5 attention heads do not divide"),
        (configured(layer_norm_eps="a"), "has layer_norm_eps 'a'"),
        (configured(vocab_size=9), "pieces, and config.json says 9"),
        (written("config.json", b"[]"), "config.json is no object of JSON"),
        (written("config.json", b"\xff"), "config.json is no text in UTF-8"),
        (written("vocab.txt", b"good\nbad\n"), "the vocabulary has no [PAD]"),
        (written("tokenizer_config.json", b'{"tokenize_chinese_chars": false}'), "chinese"),
    ],
)
def test_folders_that_hold_no_bert_are_told(
    tmp_path: Path, change: Callable[[Path], Any], message: str
) -> None:
    folder = write_bert(tmp_path)
    change(folder)
    with pytest.raises(Unreadable) as error:
        Checkpoint(files_of(folder)).tensors()
    assert message in str(error.value)


def test_tensors_are_read_in_all_their_forms(tmp_path: Path) -> None:
    folder = write_bert(tmp_path)
    wanted = random_tensors(CONFIG)
    halves = {name: values.astype("<f2") for name, values in wanted.items()}
    doubles = {name: values.astype("<f8") for name, values in wanted.items()}
    upper = {name: (values.view("<u4") >> 16).astype("<u2") for name, values in wanted.items()}
    old = {
        f"bert.{name}".replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): v
        for name, v in wanted.items()
    } | {"cls.predictions.bias": np.zeros(3, "<f4")}
    for tensors, kind, error in (
        (halves, "F16", 1e-3),
        (doubles, "F64", 0),
        (upper, "BF16", 1e-2),
        (old, "F32", 0),
    ):
        (folder / "model.safetensors").write_bytes(safetensors(tensors, kind))
        found = Checkpoint(files_of(folder)).tensors()
        assert list(found) == list(wanted)
        for name, values in found.items():
            assert values.dtype == np.float32
            np.testing.assert_allclose(values, wanted[name], rtol=error, atol=error * 1e-2)
