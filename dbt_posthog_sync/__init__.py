"""Send exactly the rows that changed from dbt models to PostHog."""

__version__ = "0.1.0"
