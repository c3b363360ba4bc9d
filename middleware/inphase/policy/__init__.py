"""Who answers frames: functions, models, remote clients; and their process."""
