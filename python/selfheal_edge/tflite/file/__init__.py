"""One TFLite file: what is where, and our copy of it."""
