# Least squares on house prices: a pipeline, its evaluation, and a model that predicts a stream.
import pandas as pd
from pyalink.alink import *

useLocalEnv(1)

# %%
df = pd.DataFrame([
    [50.0, 1, 120.0], [60.0, 2, 151.0], [80.0, 3, 199.0], [100.0, 3, 240.0],
    [120.0, 4, 291.0], [75.0, 2, 180.0], [90.0, 4, 229.0], [110.0, 3, 258.0],
], columns=["area", "rooms", "price"])
source = BatchOperator.fromDataframe(df, schemaStr="area double, rooms int, price double")

# %%
train = LinearRegTrainBatchOp().setFeatureCols(["area", "rooms"]).setLabelCol("price").linkFrom(source)
weights = train.collectModelInfo().getWeight()
print([round(weights.get(i), 4) for i in range(weights.size())])
predict = LinearRegPredictBatchOp().setPredictionCol("pred").linkFrom(train, source)
metrics = EvalRegressionBatchOp().setLabelCol("price").setPredictionCol("pred").linkFrom(predict).collectMetrics()
print(round(metrics.getR2(), 4), round(metrics.getRmse(), 4), round(metrics.getMae(), 4))

# %%
news = pd.DataFrame([[70.0, 2], [95.0, 3]], columns=["area", "rooms"])
stream = StreamOperator.fromDataframe(news, schemaStr="area double, rooms int")
LinearRegPredictStreamOp(train).setPredictionCol("pred").linkFrom(stream).print()
StreamOperator.execute()
resetEnv()
