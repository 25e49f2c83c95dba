"""What is up is heard, diagnosed and repaired."""
