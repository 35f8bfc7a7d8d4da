"""Acting: do to the parameters what the verdict and the rules ask for."""
