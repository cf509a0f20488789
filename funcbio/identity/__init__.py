"""Comparison of two things by their descriptions; parts that cannot be compared are named."""
