"""Plain and bio-inspired networks on handwritten digits, trained through both interfaces of the library."""
