"""Policies, which answer frames: functions, models, remote clients; and their process."""
