"""Judge whether the run is still sound, and go back to good parameters if not."""
