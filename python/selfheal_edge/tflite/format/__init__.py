"""The bytes of a TFLite file, read with bounds checked."""
