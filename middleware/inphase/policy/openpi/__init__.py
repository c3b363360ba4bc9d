"""A policy that a server answers, over openpi's WebSocket protocol."""
