"""Experiments: one question asked of (model, relation), answered with a tidy table.

A folder a question, and in each of them, as far as it needs them:

- `measure`: functions (model, relation, settings) -> table, one row a measurement. All that needs
  weights is here, and it is reached through `store.table`.
- `judge`: means, intervals and the verdict (`claim`), pure functions of such tables. No `measure`
  imports it, so that another way of summing up leaves every measured table as it is.
- `gather`: which settings the tables are asked for with, and all of them from the store.

`shared` holds what several questions measure with; `survey` asks many relations at once. Packages
called `measure` are empty: a table's key covers what its module imports, and no more.
"""
