"""Runs one body of tests on each serving backend."""

import pytest
from support.platforms import KSERVE, SELDON

both_backends = pytest.mark.parametrize("backend", [SELDON, KSERVE], ids=str, indirect=True, scope="session")
"""Runs a test on each backend, by the fixture `backend`. Other tests run on the first."""
