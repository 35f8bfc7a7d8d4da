"""What the loop did and why, read from its state."""
