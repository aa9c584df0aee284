"""What a function's numbers can depend on: every definition of this package that it reaches.

A stored table is computed again when one of those has changed, and only then. Names are followed
from the function through the source, nothing is run. Where the source does not tell (a module used
whole, a name looked up by text, a decorator that may put things on a list), all that it could be
counts: an edit may make a table stale without need, but never leaves a wrong one standing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ovectors.definitions import (
    Import,
    Mentions,
    Module,
    calls_in,
    digest,
    is_plain_class,
    mentions,
    take_apart,
)

STATEMENTS = "(statements)"
"""Stands for what a module does when it is imported, beside defining names."""
WHOLE = "*"
# Who uses one of these can reach anything by name.
_BY_TEXT = {"__import__", "eval", "exec", "globals"}
_BY_TEXT_ANYWHERE = {"import_module", "__subclasses__", "__globals__", "f_globals", "getsource"}
_BY_TEXT_ANYWHERE |= {"walk_packages", "iter_modules", "getmembers", "__builtins__"}
READS_DOCSTRINGS = {"__doc__", "getdoc"}
"""Who uses one of these can show what a docstring says."""

Sources = tuple[tuple[str, str], ...]
Definition = tuple[str, str]
"""A module's dotted name and a name that it defines, `STATEMENTS`, or `WHOLE` for all of them."""


UNKNOWN: Definition = ("", WHOLE)
"""Reaches everything."""


@dataclass(frozen=True, kw_only=True)
class Reached:
    """What was reached.

    Attributes:
        hashes: of each definition, by its dotted name without the package's, in order.
        strings: the string constants in them: a data file that is read is named in one.
        everything: whether nothing could be ruled out.
    """

    hashes: dict[str, str]
    strings: frozenset[str]
    everything: bool


def sources_of(package: Path) -> Sources:
    """The text of every source file of a package, by its path."""
    files = ((path.relative_to(package.parent), path) for path in package.rglob("*.py"))
    return tuple(sorted((inside.as_posix(), path.read_text("utf-8")) for inside, path in files))


@cache
def reached_in(texts: Sources, roots: tuple[Definition, ...]) -> Reached:
    """What the roots reach in a package of these sources: all where a root is not in there."""
    search = _Search(_Modules(texts))
    for module, name in roots:
        search.follow(module, name)
    return search.result()


def take_apart_named(texts: Sources, module: str) -> Module:
    """The parts of one module of these sources."""
    return _Modules(texts)[module]


class _Modules(Mapping[str, Module]):
    """The modules of a package by dotted name, each taken apart when it is first asked for."""

    def __init__(self, texts: Iterable[tuple[str, str]]) -> None:
        self._known: dict[str, tuple[str, bool]] = {}
        for file, text in texts:
            inside = Path(file).with_suffix("").parts
            is_package = inside[-1] == "__init__"
            name = ".".join(inside[:-1] if is_package else inside)
            self._known[name] = text, is_package

    def __getitem__(self, name: str) -> Module:
        text, is_package = self._known[name]
        return take_apart(text, name=name, is_package=is_package)

    def __contains__(self, name: object) -> bool:
        return name in self._known

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


class _Search:
    """Follows names from definition to definition."""

    def __init__(self, modules: Mapping[str, Module]) -> None:
        self.modules = modules
        self.found: dict[Definition, Mentions] = {}
        self.executed: set[str] = set()
        self.bindings: set[tuple[str, str, str]] = set()  # module, name, what it stands for
        self.loose: dict[str, list] = {}
        self.everything = False

    def follow(self, module: str, name: str) -> None:
        """Take in a definition and all that it reaches."""
        waiting = [(module, name)]
        while waiting:
            one = waiting.pop()
            if one[0] not in self.modules:
                waiting += self._all()
            elif one[1] == WHOLE:
                waiting += self._whole(one[0])
            elif one not in self.found:
                waiting += self._take(*one)

    def _take(self, module: str, name: str) -> list[Definition]:
        """What one definition reaches at once."""
        statements = self._statements(module, name)
        if not statements and name != STATEMENTS:
            return self._all()  # it is made in a way that the source does not show
        said = self.found[module, name] = mentions(self.modules[module], tuple(statements))
        targets = [one for chain in said.chains for one in self._resolve(module, chain, said)]
        for run in (module, *said.runs):
            targets += [(ran, STATEMENTS) for ran in self._run(run)]
        if any(self._is_by_text(chain) for chain in said.chains):
            targets += self._all()
        return targets

    @staticmethod
    def _is_by_text(chain: tuple[str, ...]) -> bool:
        named = chain[0] in _BY_TEXT or chain[:2] == ("sys", "modules")
        return named or not _BY_TEXT_ANYWHERE.isdisjoint(chain)

    def _all(self) -> list[Definition]:
        if self.everything:
            return []
        self.everything = True
        return [(module, WHOLE) for module in self.modules]

    def _whole(self, module: str) -> Iterator[Definition]:
        """Every name of a module; of what it imports, whatever belongs to this package."""
        yield module, STATEMENTS
        for name in self.modules[module].defines:
            yield module, name
        for name in self.modules[module].imports:
            yield from self._bound(module, name, ())

    def _statements(self, module: str, name: str) -> list:
        if name == STATEMENTS:
            return self._loose(module)
        return self.modules[module].defines.get(name, [])

    def _resolve(
        self, module: str, chain: tuple[str, ...], said: Mentions | None = None
    ) -> Iterator[Definition]:
        """What a dotted name in a module can mean, as far as it is in this package."""
        first, rest = chain[0], chain[1:]
        if first in self.modules[module].defines:
            yield module, first
        yield from self._bound(module, first, rest)
        for star in self.modules[module].stars:
            yield from self._imported(Import(star, WHOLE), ())
        for name, target in said.imports if said else ():
            if name in (first, WHOLE):
                yield from self._imported(target, rest)

    def _bound(self, module: str, name: str, rest: tuple[str, ...]) -> Iterator[Definition]:
        """What an imported name of a module and those behind it can mean."""
        for target in self.modules[module].imports.get(name, ()):
            self.bindings.add((module, name, str(target)))
            yield from self._imported(target, rest)

    def _imported(self, target: Import, rest: tuple[str, ...]) -> Iterator[Definition]:
        """What `target.rest` is: a definition of a module, of one below it, or unknown."""
        name = (target.name, *rest) if target.name else rest
        module = target.module
        while name and f"{module}.{name[0]}" in self.modules:
            if name[0] in self.modules.get(module, _NOTHING).defines:
                yield module, name[0]
            module, name = f"{module}.{name[0]}", name[1:]
        if module not in self.modules:
            return
        own = self.modules[module]
        if not name or name[0] == WHOLE:
            yield module, WHOLE
        elif name[0] in own.defines or name[0] in own.imports:
            yield from self._resolve(module, name)
        else:
            yield module, WHOLE

    def _run(self, name: str) -> Iterator[str]:
        """The modules that importing a dotted name runs and that were not run before."""
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            module = ".".join(parts[:end])
            if module in self.modules and module not in self.executed:
                self.executed.add(module)
                yield module
                for run in self.modules[module].runs:
                    yield from self._run(run)

    def _loose(self, name: str) -> list:
        """The statements of a module that may act on something else when it is imported."""
        if name not in self.loose:
            module = self.modules[name]
            named = [one for statements in module.defines.values() for one in statements]
            acting = [one for one in dict.fromkeys(named) if self._calls_us(name, one)]
            self.loose[name] = [*dict.fromkeys([*module.loose, *acting])]
        return self.loose[name]

    def _calls_us(self, module: str, statement: object) -> bool:
        """Whether an assignment calls a function of this package, or a class that may act."""
        for chain in calls_in(statement):
            for where, name in self._resolve(module, chain) if chain else ():
                if name == WHOLE or not is_plain_class(self._statements_of(where, name)):
                    return True
        return False

    def _statements_of(self, module: str, name: str) -> list:
        return self.modules[module].defines.get(name, [])

    def result(self) -> Reached:
        """The hashes of all that was found."""
        chains = {part for said in self.found.values() for chain in said.chains for part in chain}
        docstrings = not READS_DOCSTRINGS.isdisjoint(chains)
        hashes, strings = {}, set()
        for (module, name), said in self.found.items():
            strings |= said.strings
            if statements := self._statements(module, name):
                found = digest(tuple(statements), docstrings=docstrings)
                hashes[_label(module, name)] = found
        for module, name, target in sorted(self.bindings):
            label = _label(module, f"{name} (import)")
            hashes[label] = f"{hashes[label]}, {target}" if label in hashes else target
        return Reached(
            hashes=dict(sorted(hashes.items())),
            strings=frozenset(strings),
            everything=self.everything,
        )


def _label(module: str, name: str) -> str:
    inside = module.partition(".")[2]
    return f"{inside}.{name}" if inside else name


_NOTHING = Module(name="", is_package=False)
