# Clustering with evaluation: k-means on vectors, centres, and how well the clusters are apart.
import pandas as pd
from pyalink.alink import *

useLocalEnv(2)

# %%
df = pd.DataFrame([
    [0, "0 0 0"],
    [1, "0.1,0.1,0.1"],
    [2, "0.2,0.2,0.2"],
    [3, "9 9 9"],
    [4, "9.1 9.1 9.1"],
    [5, "9.2 9.2 9.2"],
])
inOp1 = BatchOperator.fromDataframe(df, schemaStr="id int, vec string")
inOp2 = StreamOperator.fromDataframe(df, schemaStr="id int, vec string")

# %%
kmeans = KMeansTrainBatchOp().setVectorCol("vec").setK(2).linkFrom(inOp1)
kmeans.lazyPrintModelInfo()
predictBatch = KMeansPredictBatchOp().setPredictionCol("pred").linkFrom(kmeans, inOp1)
predictBatch.print()
metrics = EvalClusterBatchOp().setVectorCol("vec").setPredictionCol("pred").linkFrom(predictBatch).collectMetrics()
print("Total Samples Number:", metrics.getCount())
print("Cluster Number:", metrics.getK())
print("Cluster Array:", sorted(metrics.getClusterArray()))

# %%
predictStream = KMeansPredictStreamOp(kmeans).setPredictionCol("pred").linkFrom(inOp2)
counted = predictStream.select("id").collectToDataframe()
print(len(counted))
resetEnv()
