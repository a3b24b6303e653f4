# A classification pipeline: trained, applied to a batch and a stream, saved, and read for single rows.
import numpy as np
import pandas as pd
from pyalink.alink import *

useLocalEnv(2)

# %%
rng = np.random.default_rng(7)
n = 400
df = pd.DataFrame({
    "age": rng.integers(18, 80, n),
    "hours": rng.integers(10, 60, n),
    "work": rng.choice(["private", "public", "none"], n),
    "sex": rng.choice(["f", "m"], n),
})
score = 0.04 * (df["age"] - 45) + 0.08 * (df["hours"] - 35) + (df["work"] == "private") * 1.0
df["label"] = np.where(score + rng.normal(size=n) > 0, ">50K", "<=50K")
schema = "age bigint, hours bigint, work string, sex string, label string"
source = BatchOperator.fromDataframe(df, schemaStr=schema)
source.firstN(5).print()

# %%
pipeline = Pipeline() \
    .add(OneHotEncoder().setSelectedCols(["work", "sex"]).setOutputCols(["onehot"])) \
    .add(VectorAssembler().setSelectedCols(["onehot", "age", "hours"]).setOutputCol("vec")) \
    .add(
        LogisticRegression()
        .setVectorCol("vec")
        .setLabelCol("label")
        .setPredictionCol("pred")
        .setPredictionDetailCol("detail")
        .setReservedCols(["label"])
        .setL2(0.01)
        .setEpsilon(1.0E-9)
    )
model = pipeline.fit(source)
predicted = model.transform(source)
predicted.groupBy("label, pred", "label, pred, count(*) as cnt").orderBy("label, pred", limit=10).print()

# %%
stream = StreamOperator.fromDataframe(df.head(3), schemaStr=schema)
model.transform(stream).select("label, pred").print()
StreamOperator.execute()

# %%
model.save("classification.ak", True)
BatchOperator.execute()
predictor = LocalPredictor("classification.ak", "age bigint, hours bigint, work string, sex string, label string")
print(predictor.getOutputColNames())
row = predictor.map([30, 50, "private", "f", None])
print(row[1])
again = PipelineModel.load("classification.ak").transform(source)
print(again.collectToDataframe().equals(predicted.collectToDataframe()))
resetEnv()
