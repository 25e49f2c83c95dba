"""One inference with all that surrounds it."""
