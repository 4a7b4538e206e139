"""The Dagster layer: thin assets, checks, partitions, resources, the job and its schedule."""

import warnings

import dagster as dg

# Single-run backfills and pools are in beta in Dagster 1.13; the version range pins them.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
