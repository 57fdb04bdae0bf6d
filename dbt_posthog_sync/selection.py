"""Selection: which syncs a command is about, in the words of dbt's `--select`, `--exclude` and `--selector`.

Words apart by a space are a union, words joined by a comma an intersection, as in dbt. What the manifest can answer is
answered from it. The rest, such as graph operators and `state:`, is asked of dbt itself, with as few calls as do.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from dbt_posthog_sync.errors import UserError
from dbt_posthog_sync.problem import Problem
from dbt_posthog_sync.selector import depends_on_state, is_match, needs_dbt, plain_name, problems_of
from dbt_posthog_sync.spelling import did_you_mean, listed
from dbt_posthog_sync.sync import Sync

AskDbt = Callable[[Sequence[str]], Collection[str]]
"""Given options of `dbt ls`, returns the ids of the nodes that it lists."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What is asked for.

    Attributes:
        select: words of `--select`; without any, everything is selected.
        exclude: words of `--exclude`.
        selector: name of a selector in the project's selectors.yml; it stands alone.
    """

    select: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    selector: str | None = None

    @property
    def is_everything(self) -> bool:
        """True when nothing is said, so that everything is meant."""
        return self == Selection()


def select(syncs: Sequence[Sync], selection: Selection, ask: AskDbt) -> tuple[Sync, ...]:
    """Return the selected syncs without the excluded ones, in their own order.

    None are returned where the selection depends on a state (`state:modified`) and nothing is of this kind now.

    Raises:
        UserError: a word is wrong, or matches nothing; or dbt is needed and does not answer.
    """
    if selection.selector is not None:
        if selection.select or selection.exclude:
            raise UserError(Problem("--selector stands alone.", "Leave --select and --exclude out, or use them only."))
        found = _of_dbt(syncs, ask, ("--selector", selection.selector))
        if not found:
            raise UserError(_no_match([f"--selector {selection.selector}"], syncs))
        return found
    wanted, unwanted = _split(selection.select), _split(selection.exclude)
    problems = [problem for word in (*wanted, *unwanted) for problem in _problems(word, syncs)]
    if problems:
        raise UserError(*problems)
    names = _names(wanted, syncs, ask) if wanted else {sync.name for sync in syncs}
    names -= _names(unwanted, syncs, ask)
    return tuple(sync for sync in syncs if sync.name in names)


def _split(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(word for text in words for word in text.split()))


def _problems(word: str, syncs: Sequence[Sync]) -> list[Problem]:
    """Return what is wrong with one word: its selectors, else that it matches nothing, if that can be seen already."""
    selectors = word.split(",")
    wrong = [problem for selector in selectors for problem in problems_of(selector)]
    own = [selector for selector in selectors if not needs_dbt(selector)]
    if wrong or not own or _matches(own, syncs):
        return wrong
    return [_no_match([word], syncs)]


def _no_match(words: Sequence[str], syncs: Sequence[Sync]) -> Problem:
    names = sorted({sync.name for sync in syncs} | {sync.model.name for sync in syncs})
    message = f"the selector {listed(words)} matches no sync."
    if not names:
        return Problem(message, "No model is annotated.")
    of_graph = [sync for sync in syncs if any(sync.name == plain_name(word) != word for word in words)]
    if of_graph:
        hint = f"dbt does not know syncs: name the model of `{of_graph[0].name}`, `{of_graph[0].model.name}`."
    else:
        hint = did_you_mean(plain_name(words[0]), names)
    return Problem(message, hint or f"There are {listed(names)}.")


def _names(words: Sequence[str], syncs: Sequence[Sync], ask: AskDbt) -> set[str]:
    """Return the names of the syncs that any of the words means.

    Words for dbt alone are asked in one call; one that is joined with a word of ours needs a call of its own.

    Raises:
        UserError: words that dbt was asked for match nothing.
    """
    found = {sync.name for word in words if not _asks(word) for sync in _matches(word.split(","), syncs)}
    whole = [word for word in words if all(map(needs_dbt, word.split(",")))]
    mixed = [word for word in words if _asks(word) and word not in whole]
    for group in ([whole] if whole else []) + [[word] for word in mixed]:
        asked = [",".join(filter(needs_dbt, word.split(","))) for word in group]
        own = [selector for selector in group[0].split(",") if not needs_dbt(selector)]
        matched = _matches(own, _of_dbt(syncs, ask, ("--select", *asked)))
        if not matched and not all(any(map(depends_on_state, word.split(","))) for word in group):
            raise UserError(_no_match(group, syncs))
        found |= {sync.name for sync in matched}
    return found


def _asks(word: str) -> bool:
    return any(map(needs_dbt, word.split(",")))


def _of_dbt(syncs: Iterable[Sync], ask: AskDbt, options: Sequence[str]) -> tuple[Sync, ...]:
    ids = frozenset(ask(options))
    return tuple(sync for sync in syncs if sync.model.unique_id in ids)


def _matches(selectors: Sequence[str], syncs: Iterable[Sync]) -> list[Sync]:
    return [sync for sync in syncs if all(is_match(selector, sync) for selector in selectors)]
