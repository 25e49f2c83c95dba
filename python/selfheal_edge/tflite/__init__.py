"""TFLite model files: the map of their bytes, their validation, probing them in a child process."""
