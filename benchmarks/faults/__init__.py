"""What goes wrong in practice, and what it costs: ``python -m benchmarks faults``.

`fault` says what a fault is and `listed` lists them, `tasks` says what is trained and
`arms` who trains it, `training` runs every fault of one arm as lanes of one program,
`pool` runs the programs and remembers them, `outcome` turns curves into figures,
`table` shows them.
"""
