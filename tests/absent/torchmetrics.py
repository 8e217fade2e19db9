"""Stands in front of torchmetrics for the processes that the tests start: see tests/conftest.py."""

raise ImportError("torchmetrics is there for the tests to compare with: nothing else may need it")
