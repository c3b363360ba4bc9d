"""An emulated Robotiq gripper on a pseudo-terminal."""
