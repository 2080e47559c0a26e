"""Registers the helpers that every test may use."""

pytest_plugins = ["tests.helpers.fixtures", "tests.helpers.no_silent_skips"]
