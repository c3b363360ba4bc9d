"""For drivers: packets, serial ports, cameras, clocks of devices."""
