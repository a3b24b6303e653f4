"""What models of clusters, discretizers, naive Bayes and other algorithms say of themselves."""

from __future__ import annotations

import json
import math
from typing import Any

import pyarrow as pa

from alink._diag import did_you_mean, quote
from alink._options import bad_option
from alink.operators._linalg import DenseMatrix, DenseVector
from alink.operators._model_info import ModelInfo, headline, listed, mapped
from alink.operators._summaries import ChiSquareTestResult, format_table


def _known(owner: str, columns: dict[str, Any], name: str) -> Any:
    """Give what a model has of a column."""
    if name not in columns:
        raise bad_option(
            owner, f"the model has no column {name!r:.60}", f"it has {', '.join(columns)}"
        )
    return columns[name]


class ClusteringModelInfo(ModelInfo):
    """Clusters and their centres."""

    #: What a cluster calls its centre.
    _centre = "center"

    def __init__(self, rows: pa.Table) -> None:
        super().__init__(rows)
        clusters = [json.loads(text) for text in self._data]
        self._clusters: dict[int, Any] = {cluster["clusterId"]: cluster for cluster in clusters}

    def _cluster(self, clusterId: int) -> Any:
        if clusterId not in self._clusters:
            raise bad_option(
                type(self).__name__,
                f"the model has no cluster {clusterId!r:.60} among {len(self._clusters)}",
            )
        return self._clusters[clusterId]

    def getClusterNumber(self) -> int:
        """Tell how many clusters there are."""
        return len(self._clusters)

    def getClusterCenter(self, clusterId: int) -> DenseVector:
        """Give the centre of a cluster."""
        return DenseVector(self._cluster(clusterId)[self._centre]["data"])

    def _centres(self) -> str:
        centres = {i: self.getClusterCenter(i).getData() for i in sorted(self._clusters)}
        return headline("ClusterCenters", "=") + mapped(centres, lines=True, edge=10) + "\n"


class KMeansModelInfo(ClusteringModelInfo):
    """Clusters: their centres, and how many rows each has."""

    _centre = "vec"

    def getClusterWeight(self, clusterId: int) -> float:
        """Give the number of rows of a cluster."""
        return float(self._cluster(clusterId)["weight"])

    def __str__(self) -> str:
        total = sum(self.getClusterWeight(i) for i in self._clusters)
        return (
            headline("KMeansInfo", "-")
            + f"KMeans clustering with {self.getClusterNumber()} clusters. Clustering on "
            f"{int(total)} samples of {self._meta.get('vectorSize')} dimension based on "
            f"{self._meta.get('distanceType')}.\n" + self._centres()
        )


class BisectingKMeansModelInfo(ClusteringModelInfo):
    """Clusters that were made by dividing: their centres."""

    def __init__(self, rows: pa.Table) -> None:
        super().__init__(rows)
        # The model has all nodes of the tree, numbered as in a heap; clusters are its leaves.
        leaves = [
            node
            for number, node in sorted(self._clusters.items())
            if 2 * number not in self._clusters
        ]
        self._clusters = dict(enumerate(leaves))

    def __str__(self) -> str:
        text = headline("BisectingKMeansInfo", "-")
        return text + f"{self.getClusterNumber()} clusters.\n" + self._centres()


class GmmModelInfo(ClusteringModelInfo):
    """A mixture of normal distributions: means and covariances."""

    _centre = "mean"

    def getClusterCovarianceMatrix(self, clusterId: int) -> DenseMatrix:
        """Give the covariances of a distribution."""
        upper = self._cluster(clusterId)["cov"]["data"]
        size = self.getClusterCenter(clusterId).size()
        places = {(i, j): j * (j + 1) // 2 + i for j in range(size) for i in range(j + 1)}
        return DenseMatrix(
            [[upper[places[min(i, j), max(i, j)]] for j in range(size)] for i in range(size)]
        )

    def __str__(self) -> str:
        text = headline("GmmInfo", "-")
        return text + f"{self.getClusterNumber()} normal distributions.\n" + self._centres()


class _Members(ModelInfo):
    """Clusters as the rows that they consist of; the model is a table of these."""

    _owner = ""

    def __init__(self, rows: pa.Table) -> None:
        super().__init__(rows)
        self._ids, *others = (column.to_pylist() for column in rows.columns)
        self._assigned: list[int | None] = others[-1]
        self._types: list[str | None] = others[0]  # of DBSCAN; of Agnes the clusters again

    def _of_type(self, name: str | None = None) -> dict[int, list[Any]]:
        """Give the ids of each cluster's rows, of all types or of one."""
        found: dict[int, list[Any]] = {}
        rows = zip(self._ids, self._assigned, self._types, strict=True)
        for identifier, cluster, kind in rows:
            if cluster is not None and name in (None, kind):
                found.setdefault(cluster, []).append(identifier)
        return dict(sorted(found.items()))

    def _members(self, clusters: dict[int, list[Any]], clusterId: int) -> list[Any]:
        if clusterId not in clusters:
            raise bad_option(
                self._owner, f"there is no cluster {clusterId!r:.60} among {len(clusters)}"
            )
        return list(clusters[clusterId])

    def _counted(self, what: str, count: int) -> str:
        total = len(self._assigned) - self._assigned.count(None)
        return (
            headline(self._owner, "-")
            + f"{what} clustering with {count} clusters on {total} samples.\n"
        )


class AgnesModelSummary(_Members):
    """Clusters that were made by joining: the rows of each."""

    _owner = "AgnesModelSummary"

    def getClusterNumber(self) -> int:
        """Tell how many clusters there are."""
        return len(self._of_type())

    def getPoints(self, clusterId: int) -> list[Any]:
        """Give the ids of a cluster's rows."""
        return self._members(self._of_type(), clusterId)

    def __str__(self) -> str:
        clusters = self._of_type()
        text = self._counted("Agnes", len(clusters)) + headline("Clusters", "=")
        return text + mapped(clusters, lines=True, edge=10) + "\n"


class DbscanModelInfo(_Members):
    """Clusters by density: the cores of each, the rows near them, and noise."""

    _owner = "DbscanModelInfo"
    _edge = 3  # so many clusters at each end are shown

    def __init__(self, rows: pa.Table) -> None:
        super().__init__(rows)
        self._cores = self._of_type("CORE")
        self._linked = {cluster: list[Any]() for cluster in self._cores} | self._of_type("LINKED")

    def getClusterNumber(self) -> int:
        """Tell how many clusters there are."""
        return len(self._cores)

    def getCorePoints(self, clusterId: int) -> list[Any]:
        """Give the ids of a cluster's cores."""
        return self._members(self._cores, clusterId)

    def getLinkedPoints(self, clusterId: int) -> list[Any]:
        """Give the ids of a cluster's rows that are no cores."""
        return self._members(self._linked, clusterId)

    def __str__(self) -> str:
        text = self._counted("Dbscan", len(self._cores))
        for what, clusters in (("CorePoints", self._cores), ("LinkedPoints", self._linked)):
            text += headline(what, "=") + mapped(clusters, lines=True, edge=self._edge) + "\n"
        noise = [identifier for ids in self._of_type("NOISE").values() for identifier in ids]
        return text + headline("NoisePoints", "=") + listed(noise) + "\n"


class ChisqSelectorModelInfo(ModelInfo):
    """Chi-square tests of columns, or of the indices of vectors, and those that were chosen."""

    #: What a selection goes by, and what its parameter is called.
    _BY = {  # noqa: RUF012
        "NumTopFeatures": ("Number of Top Features", "numTopFeatures"),
        "PERCENTILE": ("Percentile of Features", "percentile"),
        "FPR": ("FPR of Features", "fpr"),
        "FDR": ("FDR of Features", "fdr"),
        "FWE": ("FWE of Features", "fwe"),
    }

    def __init__(self, rows: pa.Table) -> None:
        super().__init__(rows)
        self._content: dict[str, Any] = json.loads(self._data[0])
        self._tests = [ChiSquareTestResult(**one) for one in self._content["chiSqs"]]

    def chisq(self, colName: str) -> float:
        """Give the statistic of a column, or of an index of vectors, a text."""
        return self._test(colName).getValue()

    def pValue(self, colName: str) -> float:
        """Give the p-value of a column, or of an index of vectors, a text."""
        return self._test(colName).getP()

    def _test(self, name: str) -> ChiSquareTestResult:
        known = {test.getColName(): test for test in self._tests}
        if str(name) not in known:
            raise bad_option(
                "ChisqSelectorModelInfo",
                f"there is no test of {quote(str(name))}",
                did_you_mean(str(name), "what is tested", list(known)),
            )
        return known[str(name)]

    def getSelectorType(self) -> str:
        """Give what the selection went by: NumTopFeatures, PERCENTILE, FPR, FDR or FWE."""
        return self._content["selectorType"]

    def getNumTopFeatures(self) -> int:
        """Give how many columns NumTopFeatures takes."""
        return self._content["numTopFeatures"]

    def getPercentile(self) -> float:
        """Give the share of the columns that PERCENTILE takes."""
        return self._content["percentile"]

    def getFpr(self) -> float:
        """Give the p-value below which FPR takes a column."""
        return self._content["fpr"]

    def getFdr(self) -> float:
        """Give the share of false discoveries of FDR."""
        return self._content["fdr"]

    def getFwe(self) -> float:
        """Give the chance of a false discovery of FWE."""
        return self._content["fwe"]

    def getSelectorNum(self) -> int:
        """Tell how many columns were chosen."""
        return len(self.getSiftOutColNames())

    def getColNames(self) -> list[str] | None:
        """Give the columns; None of vectors."""
        return self._content.get("colNames")

    def getSiftOutColNames(self) -> list[str]:
        """Give the columns that were chosen, or of vectors the indices, the best first."""
        return list(self._content["siftOutColNames"])

    def __str__(self) -> str:
        what, parameter = self._BY[self.getSelectorType()]
        text = headline("ChisqSelectorModelInfo", "-")
        for line, value in (
            ("Number of Selector Features", self.getSelectorNum()),
            ("Number of Features", len(self._tests)),
            ("Type of Selector", self.getSelectorType()),
            (what, self._content[parameter]),
        ):
            text += f"{line}: {value}\n"
        chosen = {*self.getSiftOutColNames()}
        rows = [
            [
                t.getColName(),
                t.getValue(),
                t.getP(),
                t.getDf(),
                str(t.getColName() in chosen).lower(),
            ]
            for t in sorted(self._tests, key=lambda t: (t.getP(), -t.getValue()))
        ]
        first = "VectorIndex" if self.getColNames() is None else "ColName"
        heads = [first, "ChiSquare", "PValue", "DF", "Selected"]
        lines = format_table(rows, heads, edge=len(rows)).splitlines()
        return text + "Selector Indices: \n" + "\n".join(f"    {line}" for line in lines)


class QuantileDiscretizerModelInfo(ModelInfo):
    """Where columns are cut into intervals."""

    def __init__(self, rows: pa.Table) -> None:
        super().__init__(rows)
        parts = [part for text in self._data for part in json.loads(text)]
        self._cuts: dict[str, list[float]] = {p["featureName"]: p["splitsArray"] for p in parts}

    def getSelectedColsInModel(self) -> list[str]:
        """Give the columns."""
        return list(self._cuts)

    def getCutsArray(self, columnName: str) -> list[float]:
        """Give where a column is cut."""
        return list(_known(type(self).__name__, self._cuts, columnName))

    def __str__(self) -> str:
        text = headline(type(self).__name__, "-")
        text += f"{type(self).__name__} on {len(self._cuts)} features: {listed(list(self._cuts))}\n"
        return text + mapped(self._cuts, lines=True) + "\n"


class EqualWidthDiscretizerModelInfo(QuantileDiscretizerModelInfo):
    """Where columns are cut into intervals of the same width."""


class ImputerModelInfo(ModelInfo):
    """What missing values are filled with."""

    def getStrategy(self) -> str:
        """Tell what it is: MEAN, MIN, MAX or VALUE."""
        return str(self._meta["strategy"]).upper()

    def fillValue(self) -> str | None:
        """Give what all columns are filled with, by VALUE."""
        return self._meta["fillValue"]

    def getFillValues(self) -> list[float | None]:
        """Give what each column is filled with; of texts, by VALUE, None."""
        texts: list[str | None] = json.loads(self._data[0])
        return [None if t is None or self.getStrategy() == "VALUE" else float(t) for t in texts]

    def __str__(self) -> str:
        filled = dict(zip(self._meta["selectedCols"], json.loads(self._data[0]), strict=True))
        return headline("ImputerModelInfo", "-") + f"{self.getStrategy()}: {mapped(filled)}\n"


class PcaModelData(ModelInfo):
    """Principal components."""

    def __init__(self, rows: pa.Table) -> None:
        super().__init__(rows)
        self._content: dict[str, Any] = json.loads(self._data[0])

    def getCols(self) -> list[str] | None:
        """Give the columns; None of vectors."""
        return self._content["featureColNames"]

    def getEigenValues(self) -> list[float]:
        """Give the eigenvalues, the largest first."""
        return list(self._content["lambda"])

    def getEigenVectors(self) -> list[list[float]]:
        """Give the eigenvectors, one of each eigenvalue."""
        return self._content["coef"]

    def getProportions(self) -> list[float]:
        """Give each component's share of the variance."""
        return [value / self._content["sumLambda"] for value in self.getEigenValues()]

    def getCumulatives(self) -> list[float]:
        """Give the share of the variance of each component with those before it."""
        shares = self.getProportions()
        return [math.fsum(shares[: i + 1]) for i in range(len(shares))]

    def __str__(self) -> str:
        text = headline("PcaModelInfo", "-")
        for what, values in (
            ("eigenvalues", self.getEigenValues()),
            ("proportions", self.getProportions()),
            ("cumulatives", self.getCumulatives()),
        ):
            text += f"{what}: {listed(values)}\n"
        return text


class LdaModelInfo(ModelInfo):
    """Topics of documents."""

    def getLogPerplexity(self) -> float:
        """Give the logarithm of the perplexity: the less, the better."""
        return float(self._meta["logPerplexity"])

    def getLogLikelihood(self) -> float:
        """Give the logarithm of the likelihood, or a bound of it."""
        return float(self._meta["logLikelihood"])

    def getTopicNum(self) -> int:
        """Tell how many topics there are."""
        return int(self._meta["topicNum"])

    def getVocabularySize(self) -> int:
        """Tell how many words the model knows."""
        return int(self._meta["vocabularySize"])

    def __str__(self) -> str:
        known = {
            "topic num": self.getTopicNum(),
            "vocabulary size": self.getVocabularySize(),
            "log perplexity": self.getLogPerplexity(),
            "log likelihood": self.getLogLikelihood(),
        }
        return headline("LdaModelInfo", "-") + mapped(known) + "\n"


class NaiveBayesTextModelInfo(ModelInfo):
    """Naive Bayes of vectors: how probable labels are, and the indices of vectors with each."""

    def __init__(self, rows: pa.Table) -> None:
        super().__init__(rows)
        self._content: dict[str, Any] = json.loads(self._data[0])

    def getVectorColName(self) -> str:
        """Give the column of the vectors."""
        return self._meta["vectorCol"]

    def getModelType(self) -> str:
        """Give the type: MULTINOMIAL or BERNOULLI."""
        return self._meta["modelType"]

    def getLabelList(self) -> list[Any]:
        """Give the values of the label."""
        return list(self._labels)

    def getPriorProbability(self) -> list[float]:
        """Give how probable each label is."""
        return [math.exp(value) for value in self._content["piArray"]]

    def getFeatureProbability(self) -> DenseMatrix:
        """Give how probable each index of vectors is, a row, with each label, a column."""
        theta = self._content["theta"]
        shares = [math.exp(value) for value in theta["data"]]
        return DenseMatrix(theta["m"], theta["n"], shares).transpose()

    def __str__(self) -> str:
        known = {
            "vector col name": self.getVectorColName(),
            "vector size": self._content["vectorSize"],
            "model type": self.getModelType(),
        }
        labels = dict(zip(map(str, self._labels), self.getPriorProbability(), strict=True))
        text = headline("NaiveBayesTextModelInfo", "-")
        text += headline("model meta info", "=") + mapped(known) + "\n"
        return text + headline("label proportion information", "=") + mapped(labels) + "\n"


class NaiveBayesModelInfo(ModelInfo):
    """Naive Bayes of columns: categories and normal distributions with each label."""

    def __init__(self, rows: pa.Table) -> None:
        super().__init__(rows)
        self._counts: list[list[Any]] = json.loads(self._data[2])
        self._tokens: dict[int, dict[int, str]] = {}
        for text in self._data[4:]:
            column, token, place = json.loads(text)
            self._tokens.setdefault(column, {})[place] = token

    def getFeatureNames(self) -> list[str]:
        """Give the columns of the features."""
        return list(self._meta["featureCols"])

    def _of_kind(self, categories: bool) -> list[tuple[int, str]]:
        kinds = zip(self.getFeatureNames(), self._meta["isCate"], strict=True)
        return [(at, name) for at, (name, kind) in enumerate(kinds) if kind == categories]

    def getLabelList(self) -> list[Any]:
        """Give the values of the label."""
        return list(self._labels)

    def getLabelProportion(self) -> list[float]:
        """Give the share of each label in the training."""
        weights: list[float] = self._meta["labelWeights"]
        return [weight / math.fsum(weights) for weight in weights]

    def getCategoryInfo(self) -> dict[str, list[str]]:
        """Give the values of each column of categories."""
        return {
            name: [token for _, token in sorted(self._tokens.get(number, {}).items())]
            for number, (_, name) in enumerate(self._of_kind(categories=True))
        }

    def getCategoryFeatureInfo(self) -> dict[str, dict[Any, dict[str, float]]]:
        """Give, of each column, label and value, the label's share in the rows of the value."""
        found: dict[str, dict[Any, dict[str, float]]] = {}
        for number, (at, name) in enumerate(self._of_kind(categories=True)):
            tokens = self._tokens.get(number, {})
            counts = [row[at]["values"] for row in self._counts]
            every = [math.fsum(column) for column in zip(*counts, strict=True)]
            found[name] = {
                label: {
                    token: own[place] / every[place] if every[place] else 0.0
                    for place, token in sorted(tokens.items())
                }
                for label, own in zip(self._labels, counts, strict=True)
            }
        return found

    def getGaussFeatureInfo(self) -> dict[str, dict[Any, list[float]]]:
        """Give, of each column of numbers and label, the mean and the variance."""
        return {
            name: {
                label: list(row[at]["values"])
                for label, row in zip(self._labels, self._counts, strict=True)
            }
            for at, name in self._of_kind(categories=False)
        }

    def __str__(self) -> str:
        known = {"feature names": self.getFeatureNames(), "labels": self.getLabelList()}
        labels = dict(zip(map(str, self._labels), self.getLabelProportion(), strict=True))
        text = headline("NaiveBayesModelInfo", "-") + mapped(known) + "\n"
        return text + headline("label proportion information", "=") + mapped(labels) + "\n"


class GlmModelInfo(ModelInfo):
    """A generalized linear model: its coefficients, their tests, and how it fits its training."""

    def __init__(self, rows: pa.Table) -> None:
        super().__init__(rows)
        self._content: dict[str, Any] = json.loads(self._data[0])
        self._summary: dict[str, Any] = self._content.get("summary") or {}

    def getFamily(self) -> str:
        """Give the family."""
        return self._meta["family"]

    def getLink(self) -> str:
        """Give the link."""
        return self._meta["link"]

    def getLinkPower(self) -> float:
        """Give the power of the link, of the family Tweedie."""
        return float(self._meta["linkPower"])

    def getVariancePower(self) -> float:
        """Give the power of the variance, of the family Tweedie."""
        return float(self._meta["variancePower"])

    def getFeatureColNames(self) -> list[str]:
        """Give the columns of the features."""
        return list(self._meta["featureCols"])

    def getLabelColName(self) -> str:
        """Give the column of the label."""
        return self._meta["labelCol"]

    def isFitIntercept(self) -> bool:
        """Tell whether there is an intercept."""
        return bool(self._meta["fitIntercept"])

    def getCoefficients(self) -> list[float]:
        """Give the coefficients of the features."""
        return list(self._content["coefficients"])

    def getIntercept(self) -> float:
        """Give the intercept, 0 where there is none."""
        return float(self._content["intercept"])

    def _of_training(self, name: str) -> Any:
        if not self._summary:
            raise bad_option(
                "GlmModelInfo",
                f"GlmModelInfo: the model does not keep {name!r}",
                "GlmEvaluationBatchOp, linked from model and rows, computes it",
            )
        return self._summary[name]

    def getDegreeOfFreedom(self) -> int:
        """Give the number of rows less that of independent coefficients."""
        return self._of_training("degreeOfFreedom")

    def getResidualDegreeOfFreeDom(self) -> int:
        """Give the degrees of freedom of the residuals."""
        return self._of_training("residualDegreeOfFreeDom")

    def getResidualDegreeOfFreedomNull(self) -> int:
        """Give the degrees of freedom of the residuals of the model without features."""
        return self._of_training("residualDegreeOfFreedomNull")

    def getAic(self) -> float:
        """Give Akaike's criterion."""
        return self._of_training("aic")

    def getDispersion(self) -> float:
        """Give the dispersion."""
        return self._of_training("dispersion")

    def getDeviance(self) -> float:
        """Give the deviance."""
        return self._of_training("deviance")

    def getNullDeviance(self) -> float:
        """Give the deviance of the model without features."""
        return self._of_training("nullDeviance")

    def getTValues(self) -> list[float]:
        """Give the coefficients over their errors, the intercept's last."""
        return self._of_training("tValues")

    def getPValues(self) -> list[float]:
        """Give the p-values of the coefficients, the intercept's last."""
        return self._of_training("pValues")

    def getStdErrors(self) -> list[float]:
        """Give the standard errors of the coefficients, the intercept's last."""
        return self._of_training("coefficientStandardErrors")

    def __str__(self) -> str:
        known = {
            "family": self.getFamily(),
            "link": self.getLink(),
            "intercept": self.getIntercept(),
        }
        weights = dict(zip(self.getFeatureColNames(), self.getCoefficients(), strict=True))
        text = headline("GlmModelInfo", "-") + mapped(known) + "\n"
        return text + headline("coefficients", "=") + mapped(weights) + "\n"
