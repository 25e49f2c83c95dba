"""The runtimes, behind one protocol."""
