"""The reproduction: the paper's experiments, done with `deformlib`."""
