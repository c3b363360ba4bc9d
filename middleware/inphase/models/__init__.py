"""Files of neural networks, checked, and bound to a schedule."""
