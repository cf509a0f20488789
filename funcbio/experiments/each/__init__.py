"""Every mechanism alone: what it does to the accuracy of a small network once its learning rate is tuned."""
