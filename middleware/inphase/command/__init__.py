"""The command `inphase`."""
