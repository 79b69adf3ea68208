"""Files in and out: Bragg peaks from py4DSTEM and native HDF5, and outputs that appear whole."""
