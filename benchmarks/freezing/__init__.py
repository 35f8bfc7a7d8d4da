"""What freezing saves: step time over the same step without it, and where it hurts.

    python -m benchmarks freezing --part step         # a GPT step under fixed masks
    python -m benchmarks freezing --part flops        # what the arithmetic allows
    python -m benchmarks freezing --part optimizer    # the optimizer alone
    python -m benchmarks freezing --part mnist        # end to end, 5 seeds
    python -m benchmarks freezing --part drift        # its labels change half-way
    python -m benchmarks freezing --part finetune     # end to end, a GPT, 5 seeds
    python -m benchmarks freezing --json benchmarks/results/freezing.json    # all

`gpt` and `tasks` are what is trained, `step`, `optimizer` and `end_to_end` how it is
measured, `report` prints and writes it. Times are medians of paired ratios with their
quartiles (see `benchmarks.timing`).
"""
