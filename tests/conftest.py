import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A first example may wait for the compiler, so examples have no deadline.
_UNHURRIED = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("quick", max_examples=30, derandomize=True, **_UNHURRIED)
settings.register_profile("deep", max_examples=1000, **_UNHURRIED)
settings.load_profile(os.environ.get("TINYSEG_TEST_PROFILE", "quick"))


@pytest.fixture(scope="session")
def test_data():
    """The folder of real data that TINYSEG_TEST_DATA names."""
    folder = os.environ.get("TINYSEG_TEST_DATA")
    if not folder:
        pytest.skip("TINYSEG_TEST_DATA names no folder")
    return Path(folder)
