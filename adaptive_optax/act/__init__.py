"""What the verdict and the rules ask for is done to the parameters."""
