"""The adapter's other face: one line on an optimizer, and mechanisms act in every step of it."""
