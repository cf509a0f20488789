"""Many seeds and hyper-parameters trained at once; every member equals the run with its seed alone."""
