"""Facts about the machine and the versions: without them no figure means anything."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

from bench.model import Place
from bench.sink import ROOT


def machine_facts(place: Place) -> dict[str, str]:
    """What a reader must know to compare, by name; taken before anything is measured."""
    command = ("git", "describe", "--always", "--dirty")
    commit = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True).stdout.strip()
    warehouse = str(place.server.sql("select version()")[0][0])
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit or "unknown",
        "processor": f"{_line('/proc/cpuinfo', 'model name')}, {os.cpu_count()} cores",
        "memory": _line("/proc/meminfo", "MemTotal"),
        "load before": f"{os.getloadavg()[0]:.1f}",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "warehouse": " ".join(warehouse.split()[:2]) if place.is_postgres else f"DuckDB {warehouse}",
        "packages": ", ".join(f"{name} {version(name)}" for name in ("dbt-core", "requests", "posthog")),
    }


def _line(file: str, name: str) -> str:
    path = Path(file)
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "unknown")
