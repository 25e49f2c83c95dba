"""What normal operation looks like, learned once and commissioned on the device."""
