"""What must hold for a model file before any runtime sees it."""
