"""Locks, the worker thread, and processes."""
