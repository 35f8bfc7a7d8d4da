"""Large runs: where the state lies, what it costs, and how it is read back."""
