"""What holds for every test: none fails for its duration, hypothesis' included."""

import os

from hypothesis import settings

pytest_plugins = ["inphase.testing"]  # before a test imports it: pytest rewrites its assertions

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# an editable install is imported before pytest looks for plugins, which warns; a wheel is not,
# and a reader of a page has that
_QUIET = '-W "ignore:Module already imported so cannot be rewritten"'
os.environ["PYTEST_ADDOPTS"] = f"{os.environ.get('PYTEST_ADDOPTS', '')} {_QUIET}".strip()
