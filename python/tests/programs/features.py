# Feature engineering: missing values, indices, scales and buckets, in a pipeline that is saved and read again.
import numpy as np
import pandas as pd
from pyalink.alink import *

useLocalEnv(1)

# %%
data = np.array([
    ["football", 1.5, 12.0, "a b"],
    ["football", None, 7.0, "c"],
    ["basketball", 4.5, 3.0, "a"],
    ["tennis", 3.0, None, "b c d"],
    ["football", 6.0, 9.0, None],
], dtype=object)
df = pd.DataFrame(data, columns=["sport", "x", "y", "words"])
source = BatchOperator.fromDataframe(df, schemaStr="sport string, x double, y double, words string")

# %%
pipeline = Pipeline(
    Imputer().setSelectedCols(["x", "y"]).setStrategy("MEAN"),
    StringIndexer().setSelectedCol("sport").setOutputCol("sport_id").setStringOrderType("frequency_desc"),
    MinMaxScaler().setSelectedCols(["x"]),
    QuantileDiscretizer().setNumBuckets(2).setSelectedCols(["y"]),
    VectorAssembler().setSelectedCols(["x", "y"]).setOutputCol("vec"),
)
pipeline.save("features.ak", True)
BatchOperator.execute()

# %%
model = Pipeline.load("features.ak").fit(source)
model.transform(source).lazyPrint(10, "features")
model.save("features_model.ak", True)
BatchOperator.execute()

# %%
loaded = PipelineModel.load("features_model.ak")
for transformer in loaded.getTransformers():
    print(type(transformer).__name__)
(first, second) = collectToDataframes(model.transform(source), loaded.transform(source))
print(first.equals(second))

# %%
StandardScalerTrainBatchOp().setSelectedCols(["x", "y"]).linkFrom(source).lazyPrintModelInfo("scaler")
source.registerTableName("sports")
BatchOperator.sqlQuery("SELECT sport, count(*) AS cnt, avg(x) AS x FROM sports GROUP BY sport ORDER BY sport").print()
resetEnv()
