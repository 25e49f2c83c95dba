"""Which bytes of a model are the bytes that run."""
