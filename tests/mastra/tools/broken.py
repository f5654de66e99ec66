"""Fails, with an exit code to recognise it by."""

import sys

sys.exit(3)
