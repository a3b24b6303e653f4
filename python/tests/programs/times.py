# Visits with their times: a registered table, groups in SQL, an order, and joins.
import pandas as pd
from pyalink.alink import *

useLocalEnv(1)

# %%
df = pd.DataFrame([
    ["ann", "2024-03-01 08:00:00", 3.0], ["bob", "2024-03-01 09:30:00", 1.5],
    ["ann", "2024-03-02 10:00:00", 4.0], ["cem", "2024-03-02 11:15:00", 2.0],
    ["bob", "2024-03-03 07:45:00", 2.5], ["ann", "2024-03-03 23:59:59", 1.0],
], columns=["who", "at", "amount"])
df["at"] = pd.to_datetime(df["at"])
visits = BatchOperator.fromDataframe(df, schemaStr="who string, at timestamp, amount double")
visits.registerTableName("visits")

# %%
BatchOperator.sqlQuery(
    "SELECT who, count(*) AS cnt, max(`at`) AS latest, sum(amount) AS total FROM visits GROUP BY who ORDER BY who"
).print()
visits.groupBy("who", "who, avg(amount) AS mean_amount").orderBy("mean_amount", limit=2, order="desc").print()

# %%
visits.registerTableName("visits")
cities = BatchOperator.fromDataframe(
    pd.DataFrame([["ann", "Ulm"], ["bob", "Rom"]], columns=["who", "city"]), schemaStr="who string, city string")
joined = LeftOuterJoinBatchOp().setJoinPredicate("a.who = b.who").setSelectClause("a.who AS who, city, amount")
print(joined.linkFrom(visits, cities).collectToDataframe()["city"].isna().sum())
resetEnv()
