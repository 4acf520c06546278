"""Picked up by a bare ``gunicorn``; the settings and their reasons are in ``proxy/serving.py``."""

from proxy.serving import *  # noqa: F403 - gunicorn reads the names of this module
