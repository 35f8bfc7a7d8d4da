"""The rewrite behind `frozen_value_and_grad`; docs/freezing.md draws it.

`program` flattens a jaxpr, `liveness` says whom every equation serves, `plan` groups
those that only frozen leaves need, and `run` evaluates the plan under conditionals.
"""
