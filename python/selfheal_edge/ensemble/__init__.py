"""Several models that answer together: weights, sleep, and what it means that they part."""
