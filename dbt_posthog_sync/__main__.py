"""`python -m dbt_posthog_sync` runs the command."""

from dbt_posthog_sync.cli import main

if __name__ == "__main__":
    main()
