"""The configuration that the tests of this folder pass to the command lines."""

from tests.malformed.calls import get_config as get_config
