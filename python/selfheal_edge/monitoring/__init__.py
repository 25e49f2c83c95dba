"""What is measured on every inference, and when it is an alarm."""
