"""Judging calls without sending them: a shadow beside live traffic, recorded calls, and policy tests."""
