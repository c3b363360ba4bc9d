"""The record of a cycle: its layout, the store, the wire, and those who follow."""
