"""Many seeds and hyper-parameters trained as one run, every member of which is the run with its seed."""
