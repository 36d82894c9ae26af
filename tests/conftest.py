"""What all tests share: caches of their own, apart from those of the user, and one thread for each process."""

import os
from collections.abc import Iterator

# Models of a few thousand weights gain nothing from a second thread, and threads of several workers that wait for each
# other on the same cores take minutes for seconds. Read when torch is first imported, here and in what tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

from gmai_vl.model import cache_folder

# A slow machine is no fault of the code.
settings.register_profile("without a time limit", deadline=None)
settings.load_profile("without a time limit")


@pytest.fixture(scope="session", autouse=True)
def own_caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Set GMAI_CACHE to an empty folder, but for the backbones that were pulled."""
    backbones = cache_folder()
    own = tmp_path_factory.mktemp("caches")
    if backbones.is_dir():
        (own / "backbones").symlink_to(backbones)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GMAI_CACHE", str(own))
        yield
