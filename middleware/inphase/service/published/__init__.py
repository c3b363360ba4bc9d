"""The sides of a service that others see beside requests: its announcement, and reports."""
