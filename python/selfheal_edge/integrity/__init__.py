"""The bytes that decide a model's answers: watched, saved, restored."""
