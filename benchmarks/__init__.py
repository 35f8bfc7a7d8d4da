"""The judge: adaptive_optax beside what a user would pick instead, on the same work.

`contract` says what a workload and a peer are, `experiment` runs one peer on one
workload, `cells` runs many and remembers them, `protocol` says which, `scoring` turns
curves into figures, `report` and `figures` show them. By themselves, `cost` measures
what the controller takes and `freezing` what resting parameters save.
``python -m benchmarks --help``.
"""
