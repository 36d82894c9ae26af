"""What all tests share: caches of their own, so that a run neither fills nor depends on those of the user."""

from collections.abc import Iterator

import pytest

from gmai_vl.model import cache_folder


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
