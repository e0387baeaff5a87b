"""What every test shares: the same seed, and nothing left over from the test before."""

import gc

import hypothesis
import keras
import pytest

# On a busy machine an example may take long; that is no failure.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


def pytest_collection_finish(session):
    """Take what was imported out of the garbage collector: it need not be walked through."""
    gc.collect()
    gc.freeze()


def pytest_fixture_setup(fixturedef, request):
    """Seed what several tests share too, set up before the fixture below; in any order of tests."""
    if fixturedef.scope != "function":
        keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True)
def seed():
    """Seed Python, NumPy and the backend, and clear Keras's global state and layer names."""
    # Without its garbage collection, which takes the longer the more tests there have been.
    keras.backend.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
