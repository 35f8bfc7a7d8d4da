"""How XLA compiles for the tests: quickly, for most programs run for milliseconds."""

from benchmarks.xla import known

__all__ = ["WANTED", "known"]

# With optimisation off, without fusion emitters and with its code generated in one
# piece, a program compiles in a quarter of the time. XLA forgets such flags with time.
WANTED = (
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1",
    "--xla_cpu_use_fusion_emitters=false",
)
