"""Facts about the machine and the versions: without them no figure means anything."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bench.model import Place
from bench.sink import ROOT

_PACKAGES = ("dbt-core", "requests", "posthog")


def machine_facts(place: Place) -> dict[str, str]:
    """What a reader must know to compare, by name; taken before anything is measured."""
    warehouse = place.server.sql("select version()")[0][0]
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "processor": f"{_line('/proc/cpuinfo', 'model name') or platform.machine()}, {os.cpu_count()} cores",
        "memory": f"{int(_line('/proc/meminfo', 'MemTotal').split()[0] or 0) / 1024**2:.0f} GiB",
        "load before": f"{os.getloadavg()[0]:.1f}",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "warehouse": " ".join(str(warehouse).split()[:2]) if place.is_postgres else f"DuckDB {warehouse}",
        "packages": ", ".join(f"{name} {_version(name)}" for name in _PACKAGES),
    }


def _line(file: str, name: str) -> str:
    path = Path(file)
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "0")


def _commit() -> str:
    command = ("git", "describe", "--always", "--dirty")
    found = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    return found.stdout.strip() or "unknown"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
