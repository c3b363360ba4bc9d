"""The web page of a robot that runs: its server, and what a browser gets. WEB.md is its page."""
