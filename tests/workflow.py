"""A GitHub workflow as far as a shell can run it: `run` steps in bash, and the steps of our own action."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
OURS = "dbt-posthog-sync/dbt-posthog-sync@"
_EXPRESSION = re.compile(r"\$\{\{\s*([\w.-]+)\s*\}\}")
_CONDITION = re.compile(r"([\w.-]+) (==|!=) '([^']*)'")
PIP = '#!/bin/sh\necho "$@" >> "$RUNNER_TEMP/pip.log"\n'
GH = """#!/bin/sh
echo "$@" >> "$RUNNER_TEMP/gh.log"
case "$*" in
  *--paginate*) cat "$RUNNER_TEMP/old_comments" 2>/dev/null || true ;;
  *) for word in "$@"; do case "$word" in body=@*) cp "${word#body=@}" "$RUNNER_TEMP/comment" ;; esac; done ;;
esac
"""


@dataclass(frozen=True)
class Runner:
    """A runner of GitHub's: its folders, the environment of its steps, and what expressions stand for."""

    workspace: Path
    temp: Path
    environ: Mapping[str, str]
    contexts: Mapping[str, str]

    @classmethod
    def of(cls, workspace: Path, temp: Path, **environ: str) -> Runner:
        """A runner whose `pip` and `gh` only write down how they were called."""
        programs = temp / "bin"
        programs.mkdir(parents=True)
        for name, text in (("pip", PIP), ("gh", GH)):
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
        github = {
            "GITHUB_ACTIONS": "true",
            "GITHUB_WORKSPACE": str(workspace),
            "GITHUB_STEP_SUMMARY": str(temp / "summary.md"),
            "GITHUB_REPOSITORY": "shop/shop",
            "RUNNER_TEMP": str(temp),
        }
        contexts = {
            "runner.temp": str(temp),
            "github.token": "token",
            "github.action_path": str(ROOT),
            "github.event.pull_request.number": "7",
            "secrets.POSTHOG_PROJECT_API_KEY": environ.get("POSTHOG_PROJECT_API_KEY", ""),
        }
        return cls(workspace, temp, {**os.environ, **github, **environ, "PATH": path}, contexts)

    def job(self, text: str) -> str:
        """Run the one job of a workflow; returns what its steps printed.

        Raises:
            CalledProcessError: a step failed.
        """
        (job,) = yaml.safe_load(text)["jobs"].values()
        return "".join(self._steps(job["steps"], job.get("env", {}), {}))

    def action(self, **inputs: str) -> str:
        """Run our action with these inputs."""
        return "".join(self._action(inputs, {}))

    def _steps(
        self, steps: list[dict[str, Any]], environ: Mapping[str, str], inputs: Mapping[str, str]
    ) -> Iterator[str]:
        for step in steps:
            if not self._is_due(step.get("if", ""), inputs):
                continue
            if step.get("uses", "").startswith(OURS):
                given = {key: self._filled(str(value), inputs) for key, value in step["with"].items()}
                yield from self._action(given, environ)
            elif "run" in step:
                yield self._run(step, {**environ, **step.get("env", {})}, inputs)
            else:
                assert step["uses"].startswith("actions/"), step

    def _action(self, given: Mapping[str, str], environ: Mapping[str, str]) -> Iterator[str]:
        action = yaml.safe_load((ROOT / "action.yml").read_text())
        assert set(given) <= set(action["inputs"])
        defaults = {name: self._filled(one["default"], {}) for name, one in action["inputs"].items()}
        yield from self._steps(action["runs"]["steps"], environ, {**defaults, **given})

    def _run(self, step: Mapping[str, Any], environ: Mapping[str, str], inputs: Mapping[str, str]) -> str:
        assert "${{" not in step["run"], "an expression in a script is a way to smuggle commands in"
        filled = {name: self._filled(str(value), inputs) for name, value in environ.items()}
        folder = self.workspace / self._filled(step.get("working-directory", "."), inputs)
        words = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
        env = {**self.environ, **filled}
        done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, step["run"], done.stdout, done.stderr)
        return done.stdout + done.stderr

    def _filled(self, text: str, inputs: Mapping[str, str]) -> str:
        known = {**self.contexts, **{f"inputs.{name}": value for name, value in inputs.items()}}
        return _EXPRESSION.sub(lambda found: known[found.group(1)], text)

    def _is_due(self, condition: str, inputs: Mapping[str, str]) -> bool:
        if condition in ("", "success() || failure()"):
            return True
        found = _CONDITION.fullmatch(condition)
        assert found, condition
        is_equal = inputs[found.group(1).removeprefix("inputs.")] == found.group(3)
        return is_equal == (found.group(2) == "==")
