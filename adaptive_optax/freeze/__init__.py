"""Freezing: parameters with vanishing gradients rest, and their work is skipped."""
