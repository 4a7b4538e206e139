"""Dagster's own servers, with a guard before the UI that other sites cannot pass."""
