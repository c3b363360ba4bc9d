"""An estimate of poses against a tracker's: alignment in time and space, errors, picture."""
