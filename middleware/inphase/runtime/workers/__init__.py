"""Drivers in processes of their own."""
