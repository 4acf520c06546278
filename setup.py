"""The distribution; everything about it is said in setup.cfg."""

from setuptools import setup

setup()
