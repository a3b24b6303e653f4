# A classifier and its evaluation.
import pandas as pd
from pyalink.alink import *

useLocalEnv(2)

# %%
df = pd.DataFrame([
    [2, 1, 1], [3, 2, 1], [4, 3, 2], [2, 4, 1], [2, 2, 1], [4, 3, 2], [1, 2, 1], [5, 3, 2], [3, 3, 2], [4, 3, 1],
], columns=["f0", "f1", "label"])
source = BatchOperator.fromDataframe(df, schemaStr="f0 int, f1 int, label int")
model = LogisticRegression() \
    .setFeatureCols(["f0", "f1"]) \
    .setLabelCol("label") \
    .setPredictionCol("pred") \
    .setPredictionDetailCol("detail") \
    .setL2(0.1) \
    .setEpsilon(1e-10) \
    .enableLazyPrintModelInfo("model") \
    .fit(source)
predicted = model.transform(source)
predicted.select("label, pred").print()
metrics = EvalBinaryClassBatchOp() \
    .setLabelCol("label") \
    .setPredictionDetailCol("detail") \
    .linkFrom(predicted) \
    .collectMetrics()
print("AUC:", metrics.getAuc())
print("Accuracy:", metrics.getAccuracy())
print("ConfusionMatrix:", metrics.getConfusionMatrix())
print("LabelArray:", metrics.getLabelArray())
print("TotalSamples:", metrics.getTotalSamples())
resetEnv()
