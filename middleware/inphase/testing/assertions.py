"""Has pytest tell the values of a contract's failed assertion, as it does in a test file.

It has to be imported before the contract.
"""

import pytest

pytest.register_assert_rewrite("inphase.testing.contract", "inphase.testing.rig")
