# User functions: with operators, in SQL, of rows and of tables, on batches and streams.
import pandas as pd
from pyalink.alink import *

benv, btenv, senv, stenv = useLocalEnv(2)

# %%
df = pd.DataFrame([[5.1, 3.5, "setosa"], [7.0, 4.2, "versicolor"], [6.3, 4.4, "virginica"]])
schema = "sepal_length double, sepal_width double, category string"
source = BatchOperator.fromDataframe(df, schemaStr=schema)
source.registerTableName("A")
stream_source = StreamOperator.fromDataframe(df, schemaStr=schema)

# %%
class PlusOne(ScalarFunction):
    def eval(self, x, y):
        return x + y + 10


f_udf1 = udf(PlusOne(), input_types=[DataTypes.DOUBLE(), DataTypes.DOUBLE()], result_type=DataTypes.DOUBLE())


@udf(input_types=[DataTypes.DOUBLE(), DataTypes.DOUBLE()], result_type=DataTypes.DOUBLE())
def f_udf2(x, y):
    return x + y + 20


f_udf3 = udf(lambda x, y: x + y + 30, input_types=[DataTypes.DOUBLE(), DataTypes.DOUBLE()], result_type=DataTypes.DOUBLE())

for index, f in enumerate([f_udf1, f_udf2, f_udf3]):
    name = "plus" + str(index)
    BatchOperator.registerFunction(name, f)
    BatchOperator.sqlQuery("select " + name + "(sepal_length, sepal_width) as t from A where sepal_width > 4").print()

# %%
UDFBatchOp() \
    .setFunc(f_udf1) \
    .setSelectedCols(["sepal_length", "sepal_width"]) \
    .setOutputCol("sepal_length") \
    .linkFrom(source) \
    .print()
stream_source.udf(f_udf2, ["sepal_length", "sepal_width"], "t").print()
StreamOperator.execute()

# %%
class SplitOp(TableFunction):
    def eval(self, *args):
        for i, arg in enumerate(args):
            yield i, arg


f_udtf = udtf(SplitOp(), [DataTypes.DOUBLE(), DataTypes.DOUBLE()], [DataTypes.INT(), DataTypes.DOUBLE()])
BatchOperator.registerFunction("split", f_udtf)
BatchOperator.sqlQuery(
    "select sepal_width, index, v from A, LATERAL TABLE(split(sepal_length, sepal_width)) as T(index, v) where sepal_width > 4").print()
source.udtf(f_udtf, ["sepal_length", "sepal_width"], ["index", "value"], ["category"]).print()
resetEnv()
