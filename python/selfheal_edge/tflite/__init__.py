"""TFLite model files: the map of their bytes, their validation, their trial in a child process."""
