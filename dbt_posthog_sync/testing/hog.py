"""Hog, as much of it as destinations are written in: text to a program that runs over PostHog's globals.

What a destination does is decided by its code, so the stand-in runs that code, changed or not. The language is
PostHog's (posthog.com/docs/hog); what is not played is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NoReturn

from dbt_posthog_sync.testing.hog_program import (
    Expression,
    HogError,
    Program,
    assigned_name,
    called,
    constant,
    member_of,
    member_place,
    operation,
    returned,
    thrown,
    variable,
)
from dbt_posthog_sync.testing.hog_values import Scope, concatenated, is_true

_TOKEN = re.compile(
    r"(?P<space>\s+|//[^\n]*|--[^\n]*)"
    r"|(?P<number>\d+(?:\.\d+)?)"
    r"|(?P<text>f?'(?:\\.|[^'\\])*')"
    r"|(?P<word>[A-Za-z_$][A-Za-z0-9_$]*|`[^`]+`)"
    r"|(?P<sign>:=|==|!=|<=|>=|\?\?|\?\.|[-+*/%(){}\[\],.:;=<>?])"
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0"}
_KEYWORDS = frozenset({"let", "if", "else", "for", "in", "return", "throw", "not", "and", "or", "like", "ilike"})
_COMPARISONS = frozenset({"==", "=", "!=", "<", ">", "<=", ">=", "like", "ilike", "in"})


def program(code: str) -> Program:
    """Read the code of a function.

    Raises:
        HogError: it cannot be read.
    """
    parser = _Parser(code)
    statements = []
    while not parser.is_done:
        statements.append(parser.statement())
    return Program(tuple(statements))


def template(text: str) -> Expression:
    r"""Read the value of an input: text with `{expressions}`; one that is nothing but an expression keeps its type.

    Raises:
        HogError: it cannot be read.
    """
    parts = _template_parts(text)
    if len(parts) == 1:
        return parts[0]
    return lambda scope: concatenated(part(scope) for part in parts)


def _template_parts(text: str) -> list[Expression]:
    parts: list[Expression] = []
    kept, position = "", 0
    while position < len(text):
        sign = text[position]
        if sign == "\\" and position + 1 < len(text):
            following = text[position + 1]
            kept += _ESCAPES.get(following, following)
            position += 2
        elif sign == "{":
            parts += [constant(kept)] if kept else []
            kept = ""
            parser = _Parser(text, position + 1)
            parts.append(parser.expression())
            position = parser.end_of("}")
        else:
            kept += sign
            position += 1
    return parts + ([constant(kept)] if kept or not parts else [])


class _Parser:
    """Reads from left to right, one token ahead."""

    def __init__(self, code: str, position: int = 0) -> None:
        self._code = code
        self._position = position
        self._begin = position
        self._kind = self._word = ""
        self._next()

    @property
    def is_done(self) -> bool:
        """True at the end of the code."""
        return not self._kind

    def end_of(self, sign: str) -> int:
        """Where the next token ends, which must be this sign."""
        if self._word != sign:
            self._fail(f"`{sign}` is expected")
        return self._position

    # Statements.

    def statement(self) -> Expression:
        """Read one statement."""
        match self._word if self._kind == "word" else "":
            case "let":
                self._next()
                name = self._name()
                self._take(":=")
                return self._ended(assigned_name(name, self.expression()))
            case "if":
                return self._if()
            case "for":
                return self._for()
            case "return":
                self._next()
                value = constant(None) if self._word in ("}", ";", "") else self.expression()
                return self._ended(returned(value))
            case "throw":
                self._next()
                return self._ended(thrown(self.expression()))
            case _:
                return self._ended(self._assignment())

    def _ended(self, statement: Expression) -> Expression:
        if self._word == ";":
            self._next()
        return statement

    def _assignment(self) -> Expression:
        target = self._postfix(place=True)
        if self._word != ":=":
            return self._binary(target[0], 0)
        self._next()
        value, place = self.expression(), target[1]
        if place is None:
            self._fail("only a name or a member can be assigned to")
        return place(value)

    def _block(self) -> Expression:
        self._take("{")
        statements = []
        while self._word != "}":
            if self.is_done:
                self._fail("`}` is missing")
            statements.append(self.statement())
        self._next()

        def run(scope: Scope) -> None:
            for statement in statements:
                statement(scope)

        return run

    def _if(self) -> Expression:
        self._next()
        self._take("(")
        condition = self.expression()
        self._take(")")
        then, otherwise = self._block(), None
        if self._word == "else":
            self._next()
            otherwise = self._if() if self._word == "if" else self._block()

        def run(scope: Scope) -> None:
            if is_true(condition(scope)):
                then(scope)
            elif otherwise is not None:
                otherwise(scope)

        return run

    def _for(self) -> Expression:
        self._next()
        self._take("(")
        self._take("let")
        names = [self._name()]
        if self._word == ",":
            self._next()
            names.append(self._name())
        self._take("in")
        many = self.expression()
        self._take(")")
        body = self._block()

        def run(scope: Scope) -> None:
            found = many(scope)
            pairs = list(found.items()) if isinstance(found, dict) else list(enumerate(found or (), 1))
            for key, value in pairs:
                scope.update(zip(names, (key, value) if len(names) == 2 else (value,), strict=True))
                body(scope)

        return run

    # Expressions, the loosest first.

    def expression(self) -> Expression:
        """Read one expression."""
        return self._binary(self._unary(), 0)

    def _binary(self, left: Expression, level: int) -> Expression:
        """Operators of this level and of those that bind more closely."""
        if level == len(_LEVELS):
            return left
        left = self._binary(left, level + 1)
        while (operator := self._operator(_LEVELS[level])) is not None:
            right = self._binary(self._unary(), level + 1)
            left = operation(operator, left, right)
        return left

    def _operator(self, wanted: frozenset[str]) -> str | None:
        if self._kind == "text" or self._word not in wanted | {"not"}:
            return None
        if self._word == "not":
            if "like" not in wanted:
                return None
            self._next()
            return f"not {self._taken()}"
        return self._taken()

    def _unary(self) -> Expression:
        if self._kind == "word" and self._word == "not":
            self._next()
            # `not` binds less closely than a comparison: `not key like '$%'`.
            denied = self._binary(self._unary(), _NOT_LEVEL)
            return lambda scope: not is_true(denied(scope))
        if self._word == "-" and self._kind == "sign":
            self._next()
            number = self._unary()
            return lambda scope: -number(scope)
        return self._postfix()[0]

    def _postfix(self, *, place: bool = False) -> tuple[Expression, Callable[[Expression], Expression] | None]:
        """A value and what hangs on it; with `place`, also how to assign to it."""
        name = self._word if self._kind == "word" and self._word not in _KEYWORDS else None
        value = self._primary()
        assign: Callable[[Expression], Expression] | None = None
        if place and name is not None:
            plain = name.strip("`")
            assign = lambda new: assigned_name(plain, new)  # noqa: E731
        while self._kind == "sign" and self._word in (".", "?.", "[", "("):
            if self._word == "(":
                value, assign = called(value, self._arguments(")")), None
                continue
            key = self._key()
            assign = member_place(value, key)
            value = member_of(value, key)
        return value, assign

    def _key(self) -> Expression:
        if self._taken() == "[":
            key = self.expression()
            self._take("]")
            return key
        return constant(self._name())

    def _arguments(self, end: str) -> list[Expression]:
        self._next()
        found = []
        while self._word != end:
            found.append(self.expression())
            if self._word != end:
                self._take(",")
        self._next()
        return found

    def _primary(self) -> Expression:
        kind, word = self._kind, self._word
        if kind == "text":
            self._next()
            return template(word[2:-1]) if word.startswith("f") else constant(_unquoted(word))
        if kind == "number":
            self._next()
            return constant(float(word) if "." in word else int(word))
        if kind == "word" and word not in _KEYWORDS:
            self._next()
            return _LITERALS.get(word) or variable(word.strip("`"))
        if word == "(":
            self._next()
            inner = self.expression()
            self._take(")")
            return inner
        if word == "[":
            items = self._arguments("]")
            return lambda scope: [item(scope) for item in items]
        if word == "{":
            return self._dictionary()
        self._fail(f"`{word or 'the end'}` is not expected")

    def _dictionary(self) -> Expression:
        self._next()
        pairs: list[tuple[Expression, Expression]] = []
        while self._word != "}":
            # A bare word is a key of that name.
            key = constant(self._name()) if self._kind == "word" else self.expression()
            self._take(":")
            pairs.append((key, self.expression()))
            if self._word != "}":
                self._take(",")
        self._next()
        return lambda scope: {key(scope): value(scope) for key, value in pairs}

    # Tokens.

    def _name(self) -> str:
        if self._kind != "word":
            self._fail("a name is expected")
        return self._taken().strip("`")

    def _take(self, word: str) -> None:
        if self._word != word or self._kind == "text":
            self._fail(f"`{word}` is expected")
        self._next()

    def _taken(self) -> str:
        word = self._word
        self._next()
        return word

    def _next(self) -> None:
        """Go on to the next token; `_position` is where it ends, and `_begin` where it begins."""
        while True:
            self._begin = self._position
            if self._position >= len(self._code):
                self._kind = self._word = ""
                return
            found = _TOKEN.match(self._code, self._position)
            if found is None:
                self._fail(f"`{self._code[self._position]}` is not expected")
            self._position = found.end()
            if found.lastgroup != "space":
                self._kind, self._word = str(found.lastgroup), found.group()
                return

    def _fail(self, what: str) -> NoReturn:
        line = self._code.count("\n", 0, self._begin) + 1
        raise HogError(f"{what} at line {line}")


_LEVELS = (frozenset({"??"}), frozenset({"or"}), frozenset({"and"}), _COMPARISONS, frozenset("+-"), frozenset("*/%"))
_NOT_LEVEL = 3
_LITERALS = {"true": constant(True), "false": constant(False), "null": constant(None)}


def _unquoted(word: str) -> str:
    return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found.group(1), found.group(1)), word[1:-1], flags=re.DOTALL)
