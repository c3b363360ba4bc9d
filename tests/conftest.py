"""What holds for every test: none fails for its duration, hypothesis' included."""

from hypothesis import settings

pytest_plugins = ["inphase.testing"]  # before a test imports it: pytest rewrites its assertions

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
