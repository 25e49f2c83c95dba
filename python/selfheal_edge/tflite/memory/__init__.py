"""Memory files that hold what a runtime maps."""
