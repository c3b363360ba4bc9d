"""What holds for every test: none fails for its duration, hypothesis' included."""

from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
