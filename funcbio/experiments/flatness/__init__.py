"""Flatness: how sharply the loss curves where plain and bio-inspired networks come to rest."""
