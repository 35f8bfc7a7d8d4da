"""What is measured: loss, reward and gradient become `Signals`."""
