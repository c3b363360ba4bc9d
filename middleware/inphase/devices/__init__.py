"""What drivers are made of: packets, serial ports, cameras, clocks of devices."""
