"""Settings: posthog_sync.yml and the environment as one frozen value, or every problem at once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any, Literal, TypeAlias

from dbt_posthog_sync.duration import duration
from dbt_posthog_sync.errors import SettingsError
from dbt_posthog_sync.host import Host
from dbt_posthog_sync.loops_settings import LoopsSettings, loops_settings
from dbt_posthog_sync.plan import Limits
from dbt_posthog_sync.problem import Problem
from dbt_posthog_sync.schema import SETTINGS_SCHEMA, Fault, Steps, faults, json_path, load_schema
from dbt_posthog_sync.secret import Secret, secrets_in, shown
from dbt_posthog_sync.spelling import nearest

SETTINGS_FILE = "posthog_sync.yml"
Protocol: TypeAlias = Literal["auto", "v0", "v1"]
HOST_VARIABLE = "POSTHOG_HOST"
PROJECT_KEY_VARIABLE = "POSTHOG_PROJECT_API_KEY"
PERSONAL_KEY_VARIABLE = "POSTHOG_PERSONAL_API_KEY"
PROJECT_ID_VARIABLE = "POSTHOG_PROJECT_ID"
CLOUD_HISTORICAL_EVENTS_PER_SECOND = 2000.0  # posthog.com/docs/migrate asks for "a few thousand" at most

_LONGEST_PROJECT_KEY = 64  # PostHog: rust/capture/src/token.rs
_WHERE_PROJECT_KEY = (
    "You find the key in PostHog under Settings > Project > General, as `Project API key`; it starts with `phc_`."
)
_WHERE_PERSONAL_KEY = "You make one in PostHog under Settings > Account > Personal API keys; it starts with `phx_`."
_ENVIRONMENT_ADVICE = (
    "Put the key into an environment variable and write its name: `project_api_key: {env: POSTHOG_PROJECT_API_KEY}`."
    " Replace the key if the file was ever committed."
)


@dataclass(frozen=True, slots=True)
class Delivery:
    """How messages travel; see docs/settings.md.

    Attributes:
        batch_messages: most messages in one request.
        batch_bytes: most bytes in one request before compression.
        in_flight: requests under way at once.
        timeout_seconds: longest wait for one request.
        retry_seconds: longest time that one batch is repeated, at most 8 times in all.
        confirm_seconds: longest time between confirmations.
        stream_minutes: longest life of one stream from the warehouse.
        events_per_second: highest rate of live messages; None for no limit.
        historical_events_per_second: highest rate of historical ones, as it was set; see `Settings.historical_rate`.
    """

    batch_messages: int = 1_000
    batch_bytes: int = 5 * 1024 * 1024
    in_flight: int = 8
    timeout_seconds: float = 30
    retry_seconds: float = 300
    confirm_seconds: float = 5
    stream_minutes: float = 10
    events_per_second: float | None = None
    historical_events_per_second: float | None = None


class IdentitySource(str, Enum):
    """Where it is looked up which persons PostHog has; see docs/identities.md."""

    LOOKUP = "lookup"
    MIRROR = "mirror"
    MODEL = "identity_model"


@dataclass(frozen=True, slots=True)
class Identities:
    """How an e-mail address or a distinct_id becomes a person of PostHog.

    Attributes:
        source: who is asked.
        max_age: age from which on a mirror is loaded anew.
        model: name of the dbt model, seed, snapshot or source with PostHog's export of persons.
    """

    source: IdentitySource = IdentitySource.LOOKUP
    max_age: timedelta = timedelta(hours=1)
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Deletion:
    """What `behavior: delete` may do.

    Attributes:
        enabled: true when persons may be deleted at all.
        max_persons: most persons of one sync in one run.
        events: true when the events of the persons are deleted too.
    """

    enabled: bool = False
    max_persons: int = 1_000
    events: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """What posthog_sync.yml and the environment say.

    Attributes:
        host: where PostHog is.
        protocol: auto, v0 or v1.
        project_key_variable: name of the environment variable with the project API key.
        personal_key_variable: name of the environment variable with the personal API key.
        project_id: number of the PostHog project as text; None where nobody says it.
        targets: dbt targets that may send; empty when every target may.
        state_schema: schema in the warehouse that holds the state.
        limits: guards of a plan.
        delivery: how messages travel.
        identities: how persons are found.
        deletion: what `behavior: delete` may do.
        loops: how Loops is reached by direct exposures.
        defaults: what lies under every annotation.
        file: the file that was read, empty when there is none.
    """

    host: Host = field(default_factory=lambda: Host.from_text("us"))
    protocol: Protocol = "auto"
    project_key_variable: str = PROJECT_KEY_VARIABLE
    personal_key_variable: str = PERSONAL_KEY_VARIABLE
    project_id: str | None = None
    targets: tuple[str, ...] = ()
    state_schema: str = "posthog_sync"
    limits: Limits = field(default_factory=Limits)
    delivery: Delivery = Delivery()
    identities: Identities = Identities()
    deletion: Deletion = Deletion()
    loops: LoopsSettings = LoopsSettings()  # noqa: RUF009 (a frozen value)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    file: str = ""

    def may_send(self, target: str) -> bool:
        """Tell whether a dbt target may send; any target may plan, validate and mock."""
        return not self.targets or target in self.targets

    @property
    def historical_rate(self) -> float | None:
        """Highest rate of historical messages a second: as set, else 2000 on PostHog Cloud, else None (no limit)."""
        if self.delivery.historical_events_per_second is None and self.host.region is not None:
            return CLOUD_HISTORICAL_EVENTS_PER_SECOND
        return self.delivery.historical_events_per_second

    def project_key(self, environ: Mapping[str, str]) -> Secret:
        """Return the project API key.

        Raises:
            SettingsError: the variable is not set, or holds something that is no project API key.
        """
        name = self.project_key_variable
        key = _from_environment(environ, name, "the project API key", _WHERE_PROJECT_KEY)
        _refuse(key.startswith("phx_"), name, "a personal API key (`phx_`), not a project API key", _WHERE_PROJECT_KEY)
        _refuse(
            key.startswith("phs_"), name, "a project secret key (`phs_`), not a project API key", _WHERE_PROJECT_KEY
        )
        is_key = key.isascii() and key.isprintable() and " " not in key and len(key) <= _LONGEST_PROJECT_KEY
        _refuse(
            not is_key, name, "no project API key: PostHog's are plain text of at most 64 signs", _WHERE_PROJECT_KEY
        )
        return Secret(key)

    def personal_key(self, environ: Mapping[str, str]) -> Secret:
        """Return the personal API key.

        Raises:
            SettingsError: the variable is not set, or holds something that is no personal API key.
        """
        name = self.personal_key_variable
        key = _from_environment(environ, name, "a personal API key", _WHERE_PERSONAL_KEY)
        _refuse(key.startswith("phc_"), name, "a project API key (`phc_`), not a personal one", _WHERE_PERSONAL_KEY)
        _refuse(not (key.isascii() and key.isprintable() and " " not in key), name, "no API key", _WHERE_PERSONAL_KEY)
        return Secret(key)


def read_settings(path: Path, environ: Mapping[str, str]) -> Settings:
    """Read posthog_sync.yml; without the file, return the defaults.

    Raises:
        SettingsError: with every problem of the file.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return settings_from({}, environ)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(Problem(f"the file cannot be read ({error}).", file=str(path))) from error
    return settings_from(_parsed(text, str(path)), environ, file=str(path))


def settings_from(document: object, environ: Mapping[str, str], *, file: str = "") -> Settings:
    """Build settings from the parsed YAML.

    Raises:
        SettingsError: with every problem.
    """
    values = _without_empty_sections(document)
    problems = [*_secret_problems(values, file), *_shape_problems(values, file), *_number_problems(values, file)]
    posthog = values.get("posthog") if isinstance(values, Mapping) else None
    host, host_problems = _host(posthog if isinstance(posthog, Mapping) else {}, environ, file)
    project_id, id_problems = _project_id(posthog if isinstance(posthog, Mapping) else {}, environ, file)
    section = values.get("loops") if isinstance(values, Mapping) else None
    loops, loops_problems = loops_settings(section if isinstance(section, Mapping) else {}, environ, file)
    told = {problem.path for problem in problems}
    others = (*loops_problems, *host_problems, *id_problems, *_identity_problems(values, file))
    problems += [problem for problem in others if problem.path not in told]
    if problems or not isinstance(values, Mapping) or host is None:
        raise SettingsError(*problems)
    return replace(_settings(values, host, file), project_id=project_id, loops=loops)


def _settings(values: Mapping[str, Any], host: Host, file: str) -> Settings:
    posthog = values.get("posthog", {})
    return Settings(
        host=host,
        protocol=posthog.get("protocol", "auto"),
        project_key_variable=posthog.get("project_api_key", {}).get("env", PROJECT_KEY_VARIABLE),
        personal_key_variable=posthog.get("personal_api_key", {}).get("env", PERSONAL_KEY_VARIABLE),
        targets=tuple(values.get("targets", ())),
        state_schema=values.get("state_schema", "posthog_sync"),
        limits=Limits(**values.get("limits", {})),
        delivery=Delivery(**values.get("delivery", {})),
        identities=_identities(values.get("identities", {})),
        deletion=Deletion(**values.get("deletion", {})),
        defaults=values.get("defaults", {}),
        file=file,
    )


def _identities(section: Mapping[str, Any]) -> Identities:
    given = Identities(IdentitySource(section.get("source", IdentitySource.LOOKUP.value)), model=section.get("model"))
    return replace(given, max_age=duration(section["max_age"])) if "max_age" in section else given


def _parsed(text: str, file: str) -> object:
    import yaml  # noqa: PLC0415  imported late: only a project with this file needs it

    try:
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506  both are safe loaders
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        what = getattr(error, "problem", None) or "it cannot be parsed"
        raise SettingsError(Problem(f"the file is not valid YAML{where}: {what}.", file=file)) from error


def _without_empty_sections(document: object) -> object:
    """Return the document without the sections of which every line is commented out."""
    if isinstance(document, Mapping):
        return {key: value for key, value in document.items() if value is not None}
    return {} if document is None else document


def _number_problems(values: object, file: str) -> list[Problem]:
    """YAML's `.nan` is a number that no limit can hold against."""
    sections = (
        [(name, values.get(name)) for name in ("limits", "delivery", "loops")] if isinstance(values, Mapping) else []
    )
    found = []
    for name, section in sections:
        for key, value in section.items() if isinstance(section, Mapping) else ():
            if isinstance(value, float) and math.isnan(value):
                found.append(_problem(Fault((name, key), f"`{key}` must be a number."), file))
    return found


def _shape_problems(values: object, file: str) -> list[Problem]:
    found = faults(load_schema(SETTINGS_SCHEMA), values)
    secret = set(secrets_in(values))
    return [_problem(fault, file) for fault in found if fault.steps not in secret]


def _problem(fault: Fault, file: str) -> Problem:
    return Problem(fault.message, fault.advice, file=file, path=json_path("$", fault.steps))


def _secret_problems(values: object, file: str) -> list[Problem]:
    message = "this looks like a secret, and secrets are read from the environment only."
    return [
        Problem(message, _ENVIRONMENT_ADVICE, file=file, path=json_path("$", steps)) for steps in secrets_in(values)
    ]


def _identity_problems(values: object, file: str) -> Iterator[Problem]:
    """Yield what does not go together; a key that would do nothing is more likely a source that was forgotten."""
    section = values.get("identities") if isinstance(values, Mapping) else None
    if not isinstance(section, Mapping):
        return
    source = section.get("source", IdentitySource.LOOKUP.value)
    for key, owner in (("max_age", IdentitySource.MIRROR), ("model", IdentitySource.MODEL)):
        if key in section and source != owner.value:
            message = f"`{key}` goes with `source: {owner.value}` only."
            yield _problem(Fault(("identities", key), message, f"Write that, or remove `{key}`."), file)
    if source == IdentitySource.MODEL.value and "model" not in section:
        message = "`source: identity_model` needs `model`: the dbt model with PostHog's export of persons."
        yield _problem(Fault(("identities",), message, "Write, for example, `model: posthog_persons`."), file)


def _host(posthog: Mapping[str, Any], environ: Mapping[str, str], file: str) -> tuple[Host | None, list[Problem]]:
    """Return where PostHog is: as the file says, else the variable POSTHOG_HOST, else PostHog Cloud in the US."""
    written, api = posthog.get("host"), posthog.get("api_host")
    steps: Steps = ("posthog", "host")
    variable = written.get("env") if isinstance(written, Mapping) else None if written else HOST_VARIABLE
    if isinstance(variable, str):
        written = environ.get(variable, "").strip() or ("us" if variable == HOST_VARIABLE else None)
        if written is None:
            message = f"the environment variable {variable} is not set."
            return None, [
                Problem(message, "Set it to `us`, `eu` or an address.", file=file, path=json_path("$", steps))
            ]
    if not isinstance(written, str) or not isinstance(api, (str, type(None))):
        return None, []
    try:
        return Host.from_text(written, api), []
    except ValueError as error:
        source = f"the environment variable {variable}, {shown(written)}," if variable else shown(written)
        return None, [Problem(f"{source} {error}.", file=file, path=json_path("$", steps))]


def _project_id(posthog: Mapping[str, Any], environ: Mapping[str, str], file: str) -> tuple[str | None, list[Problem]]:
    """Return the project's number: as the file says, else the variable POSTHOG_PROJECT_ID, else None."""
    written = posthog.get("project_id")
    if isinstance(written, (int, str)):
        return str(written), []
    variable = written.get("env") if isinstance(written, Mapping) else PROJECT_ID_VARIABLE
    if not isinstance(variable, str):
        return None, []
    text = environ.get(variable, "").strip()
    if (text.isascii() and text.isdigit()) or (not text and written is None):
        return text or None, []
    message = f"the environment variable {variable} {'holds no number' if text else 'is not set'}."
    advice = "It is the number in the address of every page of the project."
    return None, [Problem(message, advice, file=file, path=json_path("$", ("posthog", "project_id")))]


def _from_environment(environ: Mapping[str, str], name: str, what: str, where: str) -> str:
    key = environ.get(name, "").strip()
    if not key:
        ours = {name, HOST_VARIABLE, PROJECT_KEY_VARIABLE, PERSONAL_KEY_VARIABLE, PROJECT_ID_VARIABLE}
        similar = nearest(name, (other for other in environ if "POSTHOG" in other.upper() and other not in ours))
        hint = f" `{similar}` is set: did you mean it?" if similar else ""
        message = f"{what} is missing: the environment variable {name} is not set.{hint}"
        raise SettingsError(Problem(message, where))
    return key


def _refuse(is_wrong: bool, name: str, what: str, where: str) -> None:
    if is_wrong:
        raise SettingsError(Problem(f"the environment variable {name} holds {what}.", where))
