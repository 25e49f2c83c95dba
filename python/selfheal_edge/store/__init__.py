"""What is kept: the file format and the journal."""
