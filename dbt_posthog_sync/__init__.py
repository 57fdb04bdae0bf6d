"""Send exactly the rows that changed from dbt models to PostHog."""

from __future__ import annotations

import importlib
import os
from typing import Any

__version__ = "0.1.0"

NO_PLUGIN_VARIABLE = "DBT_POSTHOG_SYNC_NO_PLUGIN"


def __getattr__(name: str) -> Any:
    """Hand dbt its plugin: it asks every installed module named `dbt_...` for one (dbt-core: dbt/plugins/manager.py).

    It is loaded when it is asked for, because dbt's own classes stand behind it, which nobody else should wait for.
    """
    if name == "plugins" and not os.environ.get(NO_PLUGIN_VARIABLE):
        try:
            return importlib.import_module("dbt_posthog_sync.plugin").plugins
        except ImportError:  # a dbt whose plugins are others: it goes without ours
            pass
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
