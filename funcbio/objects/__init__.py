"""What stands behind a converted model."""
