"""Proof that a repair helped."""
