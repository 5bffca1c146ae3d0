"""Published experiments: the runs of each, and the tables of its page."""
