"""Latent Dirichlet allocation: topics of words, and documents made of topics.

Blei, Ng and Jordan, Latent Dirichlet allocation, 2003. Method ``online`` goes through samples of
the documents (Hoffman, Blei and Bach, Online learning for latent Dirichlet allocation, 2010);
``EM`` through all of them, by expectation and maximization of what is likeliest (Asuncion,
Welling, Smyth and Teh, On smoothing and inference for topic models, 2009). Documents are texts of
words with blanks between them.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ._arrays import numpy_of, string, valid_rows
from ._group import Group
from ._kmeans import spread
from ._models import BadModel, Model, read_model, write_model
from ._random import normal, uniform
from ._strings import Unreadable, format_dense

Array = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]

_INNER_MAX = 100  # iterations for a document
_INNER_CHANGE = 1e-3  # of the mean of a document's numbers, that ends them
#: How much topics differ at the beginning: as a gamma distribution of this shape.
_SHAPE = 150
_STEP_VALUES = 2**20
_TINY = 1e-100


# --- functions ---


def digamma(x: Array) -> Array:
    """Give the derivative of the logarithm of the gamma function, of numbers above 0."""
    value, shifted = np.zeros_like(x), x.astype(np.float64)
    for _ in range(6):
        low = shifted < 6
        value -= np.where(low, 1 / shifted, 0.0)
        shifted = np.where(low, shifted + 1, shifted)
    s = 1 / shifted**2
    series = s * (1 / 12 - s * (1 / 120 - s * (1 / 252 - s * (1 / 240 - s / 132))))
    return value + np.log(shifted) - 0.5 / shifted - series


def trigamma(x: Array) -> Array:
    """Give the derivative of `digamma`."""
    value, shifted = np.zeros_like(x), x.astype(np.float64)
    for _ in range(8):
        low = shifted < 8
        value += np.where(low, 1 / shifted**2, 0.0)
        shifted = np.where(low, shifted + 1, shifted)
    s = 1 / shifted**2
    series = s * (1 / 6 - s * (1 / 30 - s * (1 / 42 - s * (1 / 30 - s * 5 / 66))))
    return value + (1 + series) / shifted + 0.5 * s


def log_gamma(x: Array) -> Array:
    """Give the logarithm of the gamma function, of numbers above 0."""
    value, shifted = np.zeros_like(x), x.astype(np.float64)
    for _ in range(8):
        low = shifted < 8
        value -= np.where(low, np.log(shifted), 0.0)
        shifted = np.where(low, shifted + 1, shifted)
    s = 1 / shifted**2
    series = (1 / 12 - s * (1 / 360 - s * (1 / 1260 - s / 1680))) / shifted
    return (
        value + (shifted - 0.5) * np.log(shifted) - shifted + 0.5 * math.log(2 * math.pi) + series
    )


def expected_logs(weights: Array) -> Array:
    """Give the expected logarithms of what a Dirichlet distribution draws, row by row."""
    return digamma(weights) - digamma(weights.sum(axis=1, keepdims=True))


# --- documents ---


@dataclass
class Documents:
    """Some documents.

    Attributes
    ----------
    numbers : array of int64, shape (n,)
        Of their rows.
    offsets : array of int64, shape (n + 1,)
        Where the words of each begin.
    words : array of int64
        Each word of a document once.
    counts : array
        How often it is there.
    """

    numbers: Numbers
    offsets: Numbers
    words: Numbers
    counts: Array

    def __len__(self) -> int:
        return len(self.numbers)

    def some(self, which: Numbers) -> Documents:
        """Give some of them, by their places."""
        lengths = np.diff(self.offsets)[which]
        offsets = np.concatenate(([0], np.cumsum(lengths)))
        at = np.repeat(self.offsets[which] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Documents(self.numbers[which], offsets, self.words[at], self.counts[at])

    def cut(self, topics: int) -> Iterator[Documents]:
        """Give some at a time, as many as are worked on together."""
        begin = 0
        while begin < len(self):
            limit = self.offsets[begin] + max(1, _STEP_VALUES // topics)
            end = max(begin + 1, int(np.searchsorted(self.offsets, limit, side="right")) - 1)
            yield self.some(np.arange(begin, min(end, len(self))))
            begin = end

    @property
    def rows(self) -> Numbers:
        """The place of the document that each word belongs to."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def by_rows(self, values: Array) -> Array:
        """Add up values of words, shape (words, k), by documents."""
        result = np.zeros((len(self), values.shape[1]))
        filled = np.diff(self.offsets) > 0
        if filled.any():
            result[filled] = np.add.reduceat(values, self.offsets[:-1][filled], axis=0)
        return result

    def by_words(self, values: Array, count: int) -> Array:
        """Add up values of words, shape (words, k), by words of the vocabulary: (count, k)."""
        columns = [np.bincount(self.words, column, count) for column in values.T]
        return np.stack(columns, axis=1).astype(np.float64, copy=False)


def split(column: pa.Array) -> pa.ListArray:
    """Cut texts at blanks; NULL and blank text have no words."""
    clean = pc.utf8_trim_whitespace(column.cast(pa.string()))
    lists = pc.utf8_split_whitespace(clean)
    empty = pa.scalar([], pa.list_(pa.string()))
    return pc.if_else(pc.equal(clean, string("")).fill_null(True), empty, lists)


def read(numbers: Numbers, column: pa.Array, vocabulary: pa.Array) -> Documents:
    """Read documents; words that the vocabulary has not are left out."""
    lists = split(column)
    lengths = numpy_of(lists.value_lengths())
    found = pc.index_in(lists.flatten(), vocabulary)
    known = valid_rows(found)
    words = numpy_of(found.fill_null(0))[known].astype(np.int64)
    rows = np.repeat(np.arange(len(lists)), lengths)[known]
    pairs, counts = np.unique(rows * max(len(vocabulary), 1) + words, return_counts=True)
    rows, words = np.divmod(pairs, max(len(vocabulary), 1))
    offsets = np.concatenate(([0], np.cumsum(np.bincount(rows, minlength=len(lists)))))
    return Documents(numbers, offsets.astype(np.int64), words, counts.astype(np.float64))


class Corpus:
    """The documents of a worker, and the words of all workers'.

    Attributes
    ----------
    words : list of str
        The vocabulary, the most frequent first.
    inverse : list of float
        For each word, the logarithm of how rare it is: ln((1 + n) / (1 + documents with it)).
    blocks : list of Documents
        Those that have words.
    count : int
        How many documents there are in all workers that have words.
    length : float
        How many words they have.
    """

    def __init__(self, group: Group, column: str, vocabulary_max: int) -> None:
        self.group = group
        totals: Counter[str] = Counter()
        spread_over: Counter[str] = Counter()
        rows = 0
        for batch in group:
            lists = split(batch.column(column))
            rows += len(lists) - batch.column(column).null_count
            words = lists.flatten()
            of = np.repeat(np.arange(len(lists)), numpy_of(lists.value_lengths()))
            encoded = words.dictionary_encode()
            names, codes = encoded.dictionary.to_pylist(), numpy_of(encoded.indices)
            counts = np.bincount(codes, minlength=len(names))
            once = np.unique(of * max(len(names), 1) + codes) % max(len(names), 1)
            documents = np.bincount(once, minlength=len(names))
            totals.update(dict(zip(names, counts.tolist(), strict=True)))
            spread_over.update(dict(zip(names, documents.tolist(), strict=True)))
        text = json.dumps([totals, spread_over])
        totals, spread_over = Counter(), Counter()
        for mine in map(json.loads, group.gather(text.encode())):
            totals.update(mine[0])
            spread_over.update(mine[1])
        all_rows = float(group.sum(rows)[0])
        self.words = sorted(totals, key=lambda word: (-totals[word], word))[:vocabulary_max]
        self.inverse = [math.log((1 + all_rows) / (1 + spread_over[word])) for word in self.words]
        vocabulary = pa.array(self.words, pa.string())
        self.blocks: list[Documents] = []
        for start, batch in group.numbered():
            places = np.arange(start, start + batch.num_rows)
            made = read(places, batch.column(column), vocabulary)
            self.blocks.append(made.some(np.flatnonzero(np.diff(made.offsets))))
        count = sum(map(len, self.blocks))
        length = sum(float(block.counts.sum()) for block in self.blocks)
        together = group.sum(count, length)
        self.count, self.length = int(together[0]), float(together[1])


# --- inference ---


@dataclass
class Inferred:
    """What documents are made of.

    Attributes
    ----------
    weights : array, shape (n, k)
        Of the topics in each document: the parameters of a Dirichlet distribution.
    statistics : array, shape (v, k)
        How often each word is of each topic.
    norms : array
        Of each word in a document, how likely it is.
    """

    weights: Array
    statistics: Array
    norms: Array


def infer(documents: Documents, logs: Array, alpha: Array) -> Inferred:
    """Find what documents are made of, by the variational method.

    Parameters
    ----------
    documents : Documents
    logs : array, shape (v, k)
        The expected logarithms of the probabilities of words in topics.
    alpha : array, shape (k,)
    """
    likely = np.exp(logs)
    weights = np.ones((len(documents), len(alpha)))
    active = np.arange(len(documents))
    moving = np.ones(len(active), np.bool_)
    part, mine = documents, likely[documents.words]
    for _ in range(_INNER_MAX):
        before = weights[active]
        theta = np.exp(expected_logs(before))
        norms = np.einsum("ij,ij->i", theta[part.rows], mine) + _TINY
        after = alpha + theta * part.by_rows((part.counts / norms)[:, None] * mine)
        # What has come to rest stays, whatever other documents do.
        weights[active[moving]] = after[moving]
        moving &= np.abs(after - before).mean(axis=1) >= _INNER_CHANGE
        left = np.count_nonzero(moving)
        if not left:
            break
        if left < 0.7 * len(active):
            active = active[moving]
            moving = np.ones(left, np.bool_)
            part = documents.some(active)
            mine = likely[part.words]
    theta = np.exp(expected_logs(weights))[documents.rows]
    shares = theta * likely[documents.words]
    norms = shares.sum(axis=1) + _TINY
    shares *= (documents.counts / norms)[:, None]
    return Inferred(weights, documents.by_words(shares, len(logs)), norms)


# --- training ---


def train(params: Mapping[str, Any]) -> Any:
    """Make a training of ``selectedCol``."""

    def run(group: Group) -> pa.Table:
        corpus = Corpus(group, params["selectedCol"], params["vocabSize"])
        if corpus.count == 0:
            raise Unreadable(f"column {params['selectedCol']!r} has no words to train with")
        fitted = _online(corpus, params) if params["method"] == "Online" else _em(corpus, params)
        return write_model(_written(fitted, corpus, params))

    return run


@dataclass
class _Fitted:
    counts: Array  # (v, k)
    alpha: Array
    beta: float
    likelihood: float


def _or(value: float | None, default: float) -> float:
    return default if value is None or value == -1 else value


def _online(corpus: Corpus, params: Mapping[str, Any]) -> _Fitted:
    topics, seed = params["topicNum"], params["randomSeed"] or 0
    alpha = np.full(topics, _or(params["alpha"], 1 / topics))
    beta = _or(params["beta"], 1 / topics)
    size = len(corpus.words)
    noise = normal(seed, 0, np.arange(size * topics)).reshape(size, topics)
    # A gamma distribution of that shape and mean 1 is as good as normal.
    counts = np.maximum(1 + noise / math.sqrt(_SHAPE), 0.01)
    for number in range(params["numIter"]):
        logs = expected_logs(counts.T).T
        statistics, sums, documents = np.zeros((size, topics)), np.zeros(topics), 0
        for block in corpus.blocks:
            drawn = uniform(seed, 10 + number, block.numbers) < params["subsamplingRate"]
            for part in block.some(np.flatnonzero(drawn)).cut(topics):
                found = infer(part, logs, alpha)
                statistics += found.statistics
                sums += expected_logs(found.weights).sum(axis=0)
                documents += len(part)
        total, sums_of_all, drawn_of_all = corpus.group.sum(statistics, sums, documents)
        many = float(drawn_of_all)
        if many == 0:
            continue
        rate = (params["onlineLearningOffset"] + number + 1) ** -params["learningDecay"]
        counts = (1 - rate) * counts + rate * (beta + corpus.count / many * total)
        if params["optimizeDocConcentration"]:
            alpha = _concentrated(alpha, sums_of_all / many, many, rate)
    return _Fitted(counts, alpha, beta, _bound(corpus, counts, alpha, beta))


def _concentrated(alpha: Array, mean: Array, count: float, rate: float) -> Array:
    """Take a step of Newton's method to the likeliest alpha [Blei et al., 2003, A.4.2]."""
    slope = count * (mean - expected_logs(alpha[None, :])[0])
    diagonal = -count * trigamma(alpha)
    constant = count * float(trigamma(alpha.sum(keepdims=True))[0])
    shift = (slope / diagonal).sum() / (1 / constant + (1 / diagonal).sum())
    after = alpha - rate * (slope - shift) / diagonal
    return after if (after > 0).all() else alpha


def _bound(corpus: Corpus, counts: Array, alpha: Array, beta: float) -> float:
    """Give the bound of the logarithm of the documents' likelihood."""
    logs = expected_logs(counts.T).T
    total = 0.0
    for block in corpus.blocks:
        for part in block.cut(len(alpha)):
            found = infer(part, logs, alpha)
            theta = expected_logs(found.weights)
            total += float(part.counts @ np.log(found.norms))
            total += float(((alpha - found.weights) * theta).sum())
            total += float((log_gamma(found.weights) - log_gamma(alpha)).sum())
            total -= float(log_gamma(found.weights.sum(axis=1)).sum())
            total += len(part) * float(log_gamma(alpha.sum(keepdims=True))[0])
    (whole,) = corpus.group.sum(total)
    size = len(counts)
    topics = ((beta - counts) * logs).sum() + (log_gamma(counts) - math.lgamma(beta)).sum()
    topics -= (log_gamma(counts.sum(axis=0)) - math.lgamma(beta * size)).sum()
    return float(whole) + float(topics)


def _em(corpus: Corpus, params: Mapping[str, Any]) -> _Fitted:
    topics, seed = params["topicNum"], params["randomSeed"] or 0
    alpha, beta = _or(params["alpha"], 50 / topics), _or(params["beta"], 0.01)
    size = len(corpus.words)
    parts = [part for block in corpus.blocks for part in block.cut(topics)]
    own: list[Array] = []
    counts = np.zeros((size, topics))
    for part in parts:
        # Whose topic a word is at first hangs on its document and on the word.
        key = part.numbers[part.rows] * size + part.words
        drawn = np.stack([uniform(seed, topic, key) for topic in range(topics)], axis=1) + _TINY
        shares = drawn / drawn.sum(axis=1, keepdims=True) * part.counts[:, None]
        own.append(part.by_rows(shares))
        counts += part.by_words(shares, size)
    (counts,) = corpus.group.sum(counts)
    likelihood = 0.0
    for _ in range(params["numIter"]):
        likely = (counts + beta) / (counts.sum(axis=0) + size * beta)
        after, total = np.zeros((size, topics)), 0.0
        for place, part in enumerate(parts):
            theta = own[place] + alpha
            theta /= theta.sum(axis=1, keepdims=True)
            shares = likely[part.words] * theta[part.rows]
            norms = shares.sum(axis=1) + _TINY
            total += float(part.counts @ np.log(norms))
            shares *= (part.counts / norms)[:, None]
            own[place] = part.by_rows(shares)
            after += part.by_words(shares, size)
        counts, whole = corpus.group.sum(after, total)
        likelihood = float(whole)
    return _Fitted(counts, np.full(topics, alpha), beta, likelihood)


def _written(fitted: _Fitted, corpus: Corpus, params: Mapping[str, Any]) -> Model:
    """Give a model in Alink's form: counts of words by topics, of EM with their sums."""
    size, topics = fitted.counts.shape
    if params["method"] == "Online":
        matrix = {"m": topics, "n": size, "data": fitted.counts.reshape(-1).tolist()}
    else:
        table = np.vstack((fitted.counts, fitted.counts.sum(axis=0)))
        matrix = {"m": size + 1, "n": topics, "data": table.T.reshape(-1).tolist()}
    meta = {
        "logPerplexity": -fitted.likelihood / corpus.length,
        "logLikelihood": fitted.likelihood,
        "betaArray": [fitted.beta] * topics,
        "alphaArray": fitted.alpha.tolist(),
        "method": params["method"],
        "topicNum": topics,
        "vocabularySize": size,
        "randomSeed": params["randomSeed"],
    }
    words = [
        {"f0": word, "f1": rare, "f2": at}
        for at, (word, rare) in enumerate(zip(corpus.words, corpus.inverse, strict=True))
    ]
    texts = [
        json.dumps(text, ensure_ascii=False, separators=(",", ":")) for text in (matrix, *words)
    ]
    return Model(meta, texts)


# --- models ---


class _Read:
    """A model.

    Attributes
    ----------
    model : Model
    words : list of str
    counts : array, shape (v, k)
        Of words by topics, with what is added to them.
    alpha : array, shape (k,)
    """

    def __init__(self, table: pa.Table) -> None:
        self.model = model = read_model(table)
        if "alphaArray" not in model.meta:
            raise BadModel("the model is not one of topics")
        words = [json.loads(text) for text in model.data if text.startswith('{"f0"')]
        words.sort(key=lambda word: word["f2"])
        self.words: list[str] = [word["f0"] for word in words]
        pieces = [text for text in model.data if not text.startswith('{"f0"')]
        matrix = json.loads("".join(pieces))
        flat = np.array(matrix["data"], np.float64)
        topics = int(model.get("topicNum"))
        self.alpha: Array = np.array(model.get("alphaArray"), np.float64)
        if str(model.get("method")).upper() == "EM":
            self.counts: Array = flat.reshape(topics, -1).T[: len(words)]
            self.counts = self.counts + float(model.get("betaArray")[0])
        else:
            self.counts = flat.reshape(-1, topics)


class Predict:
    """Applies a model: the topic that a document has most of, and if asked for all their shares."""

    def __init__(self, params: Mapping[str, Any], types: Sequence[pa.DataType]) -> None:
        del types
        self._detail = params.get("predictionDetailCol") is not None
        self._column: str = params["selectedCol"]
        self._alpha: Array = np.empty(0)
        self._logs: Array = np.empty((0, 0))
        self._vocabulary = pa.array([], pa.string())

    def load(self, table: pa.Table) -> None:
        """Take the model."""
        found = _Read(table)
        self._alpha = found.alpha
        self._logs = expected_logs(found.counts.T).T
        self._vocabulary = pa.array(found.words, pa.string())

    def __call__(self, batch: pa.RecordBatch) -> Sequence[pa.Array]:
        """Give the outputs: NULL for NULL; a document without known words has all topics alike."""
        column = batch.column(self._column)
        places = np.flatnonzero(valid_rows(column))
        documents = read(places, column.take(pa.array(places)), self._vocabulary)
        topics = len(self._alpha)
        parts = [infer(part, self._logs, self._alpha).weights for part in documents.cut(topics)]
        weights = np.concatenate([np.empty((0, topics)), *parts])
        weights[np.diff(documents.offsets) == 0] = 1.0
        shares = weights / weights.sum(axis=1, keepdims=True)
        columns = [pa.array(shares.argmax(axis=1))]
        if self._detail:
            columns.append(pa.array([format_dense(row) for row in shares.tolist()], pa.string()))
        return [spread(one, places, batch.num_rows) for one in columns]


def words(params: Mapping[str, Any]) -> Any:
    """Make the table of a model's words and how likely each topic is of them."""
    del params

    def run(group: Group) -> pa.Table:
        found = _Read(pa.Table.from_batches(list(group), group.schema))
        shares = found.counts / found.counts.sum(axis=1, keepdims=True)
        columns = {f"topic_{k}": pa.array(column) for k, column in enumerate(shares.T)}
        return pa.table({"word": pa.array(found.words, pa.string()), **columns})

    return run


def measures(params: Mapping[str, Any]) -> Any:
    """Make the table of a model's perplexity and likelihood."""
    del params

    def run(group: Group) -> pa.Table:
        model = _Read(pa.Table.from_batches(list(group), group.schema)).model
        names = ("logPerplexity", "logLikelihood")
        return pa.table({name: pa.array([model.get(name)], pa.float64()) for name in names})

    return run
