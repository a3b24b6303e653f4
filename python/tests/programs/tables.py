# Values of cells: vectors, matrices, tensors and tables, and a stage that is used without an engine.
import numpy as np
import pandas as pd
from pyalink.alink import *

useLocalEnv(1)

# %%
vector = DenseVector([3.0, 0.0, 4.0])
print(vector.normL2(), vector.toSparseVector().numberOfValues(), vector.dot(SparseVector(3, [2], [2.0])))
matrix = DenseMatrix([[2.0, 1.0], [1.0, 3.0]])
print([round(x, 6) for x in matrix.solve(DenseVector([3.0, 5.0])).getData()], round(matrix.det(), 6))
tensor = Tensor.fromNdarray(np.arange(6, dtype=np.float32).reshape(2, 3))
print(type(tensor).__name__, tensor.shape(), tensor.sum(0, False).toNdarray().tolist())

# %%
df = pd.DataFrame([[1, 2.0, "a"], [3, None, "b"], [2, 6.0, "c"]], columns=["id", "x", "s"])
table = MTable.fromDataframe(df, "id int, x double, s string")
table.orderBy(["id"], [False])
print(table.toDataframe()["s"].tolist(), table.summary(["x"]).mean("x"), table.getNumCol())

# %%
source = BatchOperator.fromDataframe(df, schemaStr="id int, x double, s string")
model = Imputer().setSelectedCols(["x"]).setStrategy("MEAN").fit(source)
predictor = model.collectLocalPredictor("id int, x double, s string")
print(list(predictor.map([9, None, "z"])))
model.transform(source).select(["id", "x"]).orderBy("id").print()
print(isinstance(model, Model), isinstance(Imputer(), Estimator), isinstance(Binarizer(), Transformer))
resetEnv()
