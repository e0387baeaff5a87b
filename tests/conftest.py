"""What every test shares: the same seed, and nothing left over from the test before."""

import keras
import pytest


@pytest.fixture(autouse=True)
def seed():
    """Seed Python, NumPy and the backend, and clear Keras's global state and layer names."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
