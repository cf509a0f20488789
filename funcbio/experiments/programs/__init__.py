"""Programs of compiled methods: made ahead, listed, removed."""
