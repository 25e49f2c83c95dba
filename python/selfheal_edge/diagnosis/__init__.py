"""What an alarm means."""
