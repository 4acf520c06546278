"""Tests of ``proxy.detect``."""
