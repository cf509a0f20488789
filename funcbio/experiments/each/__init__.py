"""Every mechanism alone: its effect on the accuracy of a small network once its learning rate is tuned."""
