"""Measurement: loss, reward and gradient become `Signals`."""
