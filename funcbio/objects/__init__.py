"""Objects behind a converted model: its layers, its methods, and the checks before they run."""
