"""Probing an unknown file in a child process."""
