"""What normal operation looks like, learned once and settled on the device."""
