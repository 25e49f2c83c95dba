"""The loop: incidents come in, are diagnosed and repaired, and the repair is proven."""
