"""What every test shares: the same seed, and nothing left over from the test before."""

import gc

import keras
import pytest


def pytest_collection_finish(session):
    """Take what was imported out of the garbage collector, which `clear_session` runs each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def seed():
    """Seed Python, NumPy and the backend, and clear Keras's global state and layer names."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
