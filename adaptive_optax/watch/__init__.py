"""Telemetry: what the loop did and why, read from its state."""
