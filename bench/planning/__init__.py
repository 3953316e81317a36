"""What to do."""
