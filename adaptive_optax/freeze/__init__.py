"""Parameters whose gradients die away rest, and their work is not done."""
