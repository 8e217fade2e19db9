"""For all tests: the longest files come first, and what they start has no more packages than a user has."""

import os
from pathlib import Path

import pytest

# Were they last, one process would still run notebooks minutes after the other is done.
LONGEST = ("tests/notebooks/", "tests/assignments/", "tests/browser/", "tests/grading/test_attacks.py")


def pytest_collection_modifyitems(config, items):
    """Puts the longest in front; all else, and the tests of a file, stay in their order."""

    def place(item):
        path = item.path.relative_to(config.rootpath).as_posix()
        return next((i for i, name in enumerate(LONGEST) if path.startswith(name)), len(LONGEST))

    items.sort(key=place)


@pytest.fixture(scope="session", autouse=True)
def only_tests_have_torchmetrics():
    """Notebooks, commands and other processes do without it, as they must for most users.

    Lightning Fabric imports it, where it is installed, only to look at its version: 2.5 s for each of them.
    """
    paths = [str(Path(__file__).parent / "absent"), os.environ.get("PYTHONPATH", "")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
        yield
