"""Self-healing TFLite models for edge devices."""
