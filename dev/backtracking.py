"""How many steps a backtracking engine takes for a regular expression, counted on strings that are made to cost it most.

A pattern is super-linear where its steps grow faster than the text: nested or adjacent repetitions of the same characters, and a
search that begins such a repetition at each character. Steps are counted by an engine of our own over Python's parse tree, which
backtracks as `re` does, so that the outcome depends on no clock. Used by dev/patterns.py.
"""

import re
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

codes, parser = import_module("re._constants"), import_module("re._parser")  # the parse tree has no public name

SIZE = 64  # pumps of the shorter attack; the longer one has twice as many
LINEAR_STEPS = 10  # for each character: fewer are not measured again
GROWTH = 2.8  # of the steps, from the one to the other: 2 is linear, 4 quadratic
BOUND_KEPT = 3  # a repetition of at most n times costs a factor: to see growth, n is reduced to this
MOST_STEPS = 1000  # for each character of a text, with the bounds as they are
MOST_CHARACTERS = 16  # of an alphabet
CANDIDATES = "a0A_ \n\t-.:/\"'!<>{}[]()=,;@%#?&+*\\|~^$é\x00\x1b"
MODES = ("fullmatch", "match", "search")
sys.setrecursionlimit(max(sys.getrecursionlimit(), 60_000))

Matcher = Callable[[int, Callable[[int], bool]], bool]


class TooManyStepsError(Exception):
    """A match has taken more steps than it may."""


class Engine:
    """Matches a pattern against one text after another, and counts the steps."""

    def __init__(self, pattern: str | bytes, flags: int = 0, reduce: bool = True) -> None:
        """Parse the pattern; `reduce` its bounds."""
        text = pattern.decode("latin-1") if isinstance(pattern, bytes) else pattern
        self.tree = parser.parse(text, flags)
        self.flags = self.tree.state.flags
        self._reduce = reduce
        self._groups: dict[int, tuple[int, int]] = {}
        self.predicates: list[Callable[[str], bool]] = []
        self.text, self.steps, self.budget = "", 0, 0
        self._match = self._sequence(list(self.tree))

    def count(self, text: str, mode: str, budget: int) -> int:
        """Count the steps for a text. Raises TooManyStepsError."""
        self.text, self.steps, self.budget = text, 0, budget
        if mode != "search":
            whole = mode == "fullmatch"
            self._match(0, lambda end: not whole or end == len(text))
            return self.steps
        start = 0
        while start <= len(text):  # as finditer does: a search ends at its first match, a substitution does not
            ends: list[int] = []
            found = self._match(start, lambda end, ends=ends: ends.append(end) is None)  # type: ignore[misc]
            start = max(start + 1, ends[-1]) if found else start + 1
        return self.steps

    def _step(self) -> None:
        self.steps += 1
        if self.steps > self.budget:
            raise TooManyStepsError

    def _sequence(self, items: list[Any]) -> Matcher:
        matchers = [self._node(op, value) for op, value in items]

        def match(index: int, follow: Callable[[int], bool], at: int = 0) -> bool:
            if at == len(matchers):
                return follow(index)
            return matchers[at](index, lambda end: match(end, follow, at + 1))

        return match

    def _node(self, op: Any, value: Any) -> Matcher:
        if (predicate := self._predicate(op, value)) is not None:
            return self._single(predicate)
        if op is codes.BRANCH:
            return self._branch([self._sequence(list(branch)) for branch in value[1]])
        if op is codes.SUBPATTERN:
            return self._group(value[0], self._sequence(list(value[3])))
        if op in (codes.MAX_REPEAT, codes.MIN_REPEAT):
            return self._repeat(*self.bounds(value), list(value[2]), lazy=op is codes.MIN_REPEAT)
        if op is codes.POSSESSIVE_REPEAT:
            return self._atomic(self._repeat(*self.bounds(value), list(value[2]), lazy=False))
        if op is codes.ATOMIC_GROUP:
            return self._atomic(self._sequence(list(value)))
        if op in (codes.ASSERT, codes.ASSERT_NOT):
            return self._assertion(value[0], list(value[1]), wanted=op is codes.ASSERT)
        if op is codes.GROUPREF:
            return self._reference(value)
        if op is codes.AT:
            return lambda index, follow: self._is_at(value, index) and follow(index)
        raise NotImplementedError(f"{op} in a regular expression")

    def bounds(self, value: Any) -> tuple[int, int | None]:
        """Tell how often a repetition may occur; None is any number."""
        low, high = int(value[0]), None if value[1] is codes.MAXREPEAT else int(value[1])
        if self._reduce and high is not None:
            return min(low, BOUND_KEPT), min(high, BOUND_KEPT)
        return (min(low, BOUND_KEPT) if self._reduce else low), high

    def _single(self, predicate: Callable[[str], bool]) -> Matcher:
        def match(index: int, follow: Callable[[int], bool]) -> bool:
            self._step()
            return index < len(self.text) and predicate(self.text[index]) and follow(index + 1)

        return match

    def _branch(self, branches: list[Matcher]) -> Matcher:
        return lambda index, follow: any(branch(index, follow) for branch in branches)

    def _group(self, number: int | None, inner: Matcher) -> Matcher:
        def match(index: int, follow: Callable[[int], bool]) -> bool:
            def close(end: int) -> bool:
                if number is not None:
                    self._groups[number] = (index, end)
                return follow(end)

            return inner(index, close)

        return match

    def _repeat(self, low: int, high: int | None, items: list[Any], *, lazy: bool) -> Matcher:
        single = self._predicate(items[0][0], items[0][1], known=False) if len(items) == 1 else None
        inner = self._sequence(items)  # also notes the predicates

        def match_single(index: int, follow: Callable[[int], bool]) -> bool:
            assert single is not None
            end, most = index, len(self.text) if high is None else min(len(self.text), index + high)
            while end < most and single(self.text[end]):
                self._step()
                end += 1
            ends = range(index + low, end + 1) if lazy else range(end, index + low - 1, -1)
            for end in ends:
                self._step()
                if follow(end):
                    return True
            return False

        def match(index: int, follow: Callable[[int], bool], count: int = 0) -> bool:
            self._step()
            again = high is None or count < high

            def more() -> bool:
                return again and inner(index, lambda end: (end > index or count < low) and match(end, follow, count + 1))

            if count < low:
                return more()
            return follow(index) or more() if lazy else more() or follow(index)

        return match if single is None else match_single

    def _atomic(self, inner: Matcher) -> Matcher:
        def match(index: int, follow: Callable[[int], bool]) -> bool:
            ends: list[int] = []
            return inner(index, lambda end: ends.append(end) is None) and follow(ends[0])  # type: ignore[func-returns-value]

        return match

    def _assertion(self, direction: int, items: list[Any], *, wanted: bool) -> Matcher:
        inner = self._sequence(items)

        def holds(index: int) -> bool:
            if direction > 0:
                return inner(index, lambda _: True)
            return any(inner(start, lambda end: end == index) for start in range(max(0, index - 40), index + 1))

        return lambda index, follow: holds(index) is wanted and follow(index)

    def _reference(self, number: int) -> Matcher:
        def match(index: int, follow: Callable[[int], bool]) -> bool:
            self._step()
            start, end = self._groups.get(number, (0, 0))
            return self.text.startswith(self.text[start:end], index) and follow(index + end - start)

        return match

    def _is_at(self, where: Any, index: int) -> bool:
        self._step()
        before = self.text[index - 1 : index] if index else ""
        after = self.text[index : index + 1]
        if where in (codes.AT_BOUNDARY, codes.AT_NON_BOUNDARY):
            boundary = bool(re.match(r"\w", before)) is not bool(re.match(r"\w", after))
            return boundary is (where is codes.AT_BOUNDARY)
        multiline = bool(self.flags & re.MULTILINE)
        if where is codes.AT_BEGINNING and multiline:
            return before in ("", "\n")
        if where in (codes.AT_BEGINNING, codes.AT_BEGINNING_STRING):
            return index == 0
        at_end = index == len(self.text)
        return at_end or (where is codes.AT_END and after == "\n" and (multiline or index == len(self.text) - 1))

    def _predicate(self, op: Any, value: Any, known: bool = True) -> Callable[[str], bool] | None:
        """Make of a node that stands for one character what tells whether a character fits."""
        if op is codes.ANY:
            dot = bool(self.flags & re.DOTALL)
            predicate: Callable[[str], bool] = lambda character: dot or character != "\n"  # noqa: E731
        elif op in (codes.LITERAL, codes.NOT_LITERAL, codes.IN):
            found: dict[str, bool] = {}
            items = value if op is codes.IN else [(codes.LITERAL, value)]

            def predicate(character: str) -> bool:
                if character not in found:
                    found[character] = self._is_in(character, items) is not (op is codes.NOT_LITERAL)
                return found[character]
        else:
            return None
        if known:
            self.predicates.append(predicate)
        return predicate

    def _is_in(self, character: str, items: list[Any]) -> bool:
        forms = {character, *((character.lower(), character.upper()) if self.flags & re.IGNORECASE else ())}
        negated = bool(items) and items[0][0] is codes.NEGATE
        return any(_fits(form, op, value) for op, value in items for form in forms) is not negated


def _fits(character: str, op: Any, value: Any) -> bool:
    if op is codes.LITERAL:
        return character == chr(value)
    if op is codes.RANGE:
        return len(character) == 1 and value[0] <= ord(character) <= value[1]
    if op is codes.CATEGORY:
        return re.fullmatch(_CATEGORIES[value], character) is not None
    return False  # NEGATE, which is judged with all


_CATEGORIES = {
    codes.CATEGORY_DIGIT: r"\d",
    codes.CATEGORY_NOT_DIGIT: r"\D",
    codes.CATEGORY_SPACE: r"\s",
    codes.CATEGORY_NOT_SPACE: r"\S",
    codes.CATEGORY_WORD: r"\w",
    codes.CATEGORY_NOT_WORD: r"\W",
}


class Attacks:
    """Strings of the form prefix, pump again and again, suffix, made of a pattern's parse tree."""

    def __init__(self, engine: Engine) -> None:
        """Read the pattern."""
        self._engine = engine
        self.alphabet = _alphabet(engine)
        self.prefixes, self.pumps = [""], list(self.alphabet)
        self._repeats = 0
        whole = self._walk(list(engine.tree), "")
        self.pumps += [whole] if len(whole) > 1 else []
        self.suffixes = ["", next((one for one in self.alphabet if not any(fits(one) for fits in engine.predicates)), "\x00")]
        self.prefixes = list(dict.fromkeys(self.prefixes))[:12]
        self.pumps += self.prefixes
        self.pumps = list(dict.fromkeys(filter(None, self.pumps)))[: MOST_CHARACTERS + 24]

    @property
    def has_repeats(self) -> bool:
        """Whether anything is repeated."""
        return self._repeats > 0

    def strings(self, size: int) -> Iterator[tuple[str, str, str]]:
        """List the attacks: prefix, what is pumped to at least `size` characters, suffix."""
        for prefix in self.prefixes:
            for pump in self.pumps:
                for suffix in self.suffixes:
                    yield prefix, pump * -(-size // len(pump)), suffix

    def _walk(self, items: list[Any], before: str) -> str:
        """Make a short string that matches; note what each repetition repeats, and what stands before it."""
        text = ""
        for op, value in items:
            if op in (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT):
                self._repeats += 1
                body = self._walk(list(value[2]), before + text)
                self.prefixes.append(before + text)
                self.pumps.append(body)
                text += body * min(int(value[0]), BOUND_KEPT)
            elif op is codes.BRANCH:
                branches = [self._walk(list(branch), before + text) for branch in value[1]]
                self.pumps += branches
                text += branches[0]
            elif op is codes.SUBPATTERN:
                text += self._walk(list(value[3]), before + text)
            elif op is codes.ATOMIC_GROUP:
                text += self._walk(list(value), before + text)
            elif op in (codes.ASSERT, codes.ASSERT_NOT):
                self._walk(list(value[1]), before + text)
            elif (fits := self._engine._predicate(op, value, known=False)) is not None:
                known = (chr(value),) if op is codes.LITERAL else ()
                text += next(filter(fits, (*known, *self.alphabet, *map(chr, range(32, 256)))), "")
        return text


def _alphabet(engine: Engine) -> list[str]:
    """Choose one character for each set of places of the pattern that it fits."""
    own = {chr(value) for op, value in _characters(list(engine.tree)) if value < 0x110000}
    chosen: dict[tuple[bool, ...], str] = {}
    for character in (*CANDIDATES, *sorted(own)):
        chosen.setdefault(tuple(fits(character) for fits in engine.predicates), character)
    return list(chosen.values())[:MOST_CHARACTERS]


def _characters(node: Any) -> Iterator[tuple[Any, int]]:
    if isinstance(node, tuple) and len(node) == 2 and node[0] in (codes.LITERAL, codes.NOT_LITERAL):
        yield node[0], node[1]
    elif isinstance(node, tuple) and len(node) == 2 and node[0] is codes.RANGE:
        yield from ((codes.LITERAL, end) for end in node[1])
    elif isinstance(node, list | tuple | parser.SubPattern):
        for inner in node:
            yield from _characters(inner)


def problem(pattern: str | bytes, flags: int = 0, mode: str = "search") -> str:
    """Say by which text a pattern takes too many steps; "" where it is linear."""
    engine = Engine(pattern, flags)
    attacks = Attacks(engine)
    if not attacks.has_repeats:
        return ""
    most = SIZE * SIZE * 20
    for prefix, pumped, suffix in attacks.strings(SIZE):
        try:
            steps = engine.count(prefix + pumped + suffix, mode, most)
            if steps <= LINEAR_STEPS * len(pumped):
                continue
            longer = engine.count(prefix + pumped * 2 + suffix, mode, most * 4)
        except (TooManyStepsError, RecursionError):
            return f"super-linear on {_shown(prefix, pumped, suffix)}"
        if longer > steps * GROWTH:
            return f"super-linear on {_shown(prefix, pumped, suffix)}: {steps} steps, {longer} on twice the text"
    exact = Engine(pattern, flags, reduce=False)
    for prefix, pumped, suffix in attacks.strings(2 * SIZE):
        text = prefix + pumped + suffix
        try:
            exact.count(text, mode, MOST_STEPS * len(text))
        except (TooManyStepsError, RecursionError):
            return f"more than {MOST_STEPS} steps for each character of {_shown(prefix, pumped, suffix)}: lower its bounds"
    return ""


def _shown(prefix: str, pumped: str, suffix: str) -> str:
    pump = next(pumped[:length] for length in range(1, len(pumped) + 1) if not pumped.replace(pumped[:length], ""))
    return " + ".join([*([repr(prefix)] if prefix else []), f"{pump!r} again and again", *([repr(suffix)] if suffix else [])])
