"""What the API pages list says what comes out, in which shape, and shows it in a doctest."""

import importlib
import inspect
import re
from functools import cache, cached_property
from typing import NamedTuple

from places import BOOK

ARRAY = r"\b(ArrayLike|NDArray|ndarray|Tensor|Array|Vector|Matrix)\b"
# "(queries, dim) array", "float array of the shape of x", "vector", "as ``kept``"
SHAPE = r"\([^()]*[,…].*?\)`*|\barray|\btensor|\bvector|\bmatrix|\bshape|\bas ``"
SECTION = r"(?m)^{}\n-{{3,}}$"
# Public names without a doctest, each with its reason.
NO_DOCTEST = {
    "needs the weights of a language model, of some 100 MB": {
        "genopt_core.torch.smollm.find_smollm",
        "genopt_core.torch.smollm.load_smollm",
    },
}


class Public(NamedTuple):
    """What an API page lists: a function, a class, or a method or property of one."""

    name: str
    is_class: bool
    is_property: bool
    function: object  # a class itself, or the function behind a method or property
    owner: type | None

    @property
    def short(self) -> str:
        return self.name.rpartition(".")[2]

    @property
    def text(self) -> str:
        return inspect.getdoc(self.function) or ""

    @property
    def around(self) -> str:
        """Its docstring and that of its class."""
        return self.text + "\n" + (inspect.getdoc(self.owner) or "" if self.owner else "")

    @property
    def returns(self) -> str:
        return str(getattr(self.function, "__annotations__", {}).get("return", "None"))

    @property
    def arrays(self) -> list[str]:
        """The parameters that are arrays."""
        if self.is_class:
            return []
        given = inspect.signature(self.function).parameters.values()
        return [p.name for p in given if re.search(ARRAY, str(p.annotation))]


def listed() -> dict[str, object]:
    """Names and objects of the pages' ``automodule``, ``autofunction`` and ``autoclass``."""
    found = {}
    for page in sorted((BOOK / "api").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        entry = r"(?m)^\.\. auto(module|function|class):: (\S+)\n((?:   :.*\n)*)"
        for kind, name, options in re.findall(entry, text):
            if kind != "module":
                module, _, short = name.rpartition(".")
                found[name] = getattr(importlib.import_module(module), short)
                continue
            module = importlib.import_module(name)
            only = re.search(r":members: (.+)", options)
            less = re.search(r":exclude-members: (.+)", options)
            names = only[1].split(", ") if only else getattr(module, "__all__", None)
            if names is None:
                own = {k for k, v in vars(module).items() if getattr(v, "__module__", "") == name}
                names = [n for n in own if not n.startswith("_")]
            for short in sorted(set(names) - set(less[1].split(", ") if less else ())):
                found[f"{name}.{short}"] = getattr(module, short)
    return found


@cache
def public() -> list[Public]:
    """Everything that is listed and is no constant; each once."""
    found, seen = [], set()
    for name, thing in listed().items():
        thing = inspect.unwrap(thing) if callable(thing) else thing
        if id(thing) in seen or not (inspect.isclass(thing) or inspect.isfunction(thing)):
            continue
        seen.add(id(thing))
        found.append(Public(name, inspect.isclass(thing), False, thing, None))
        for short, member in vars(thing).items() if inspect.isclass(thing) else ():
            is_property = isinstance(member, property | cached_property)
            member = getattr(member, "fget", getattr(member, "func", member))
            member = inspect.unwrap(getattr(member, "__func__", member))
            if not short.startswith("_") and inspect.isfunction(member):
                found.append(Public(f"{name}.{short}", False, is_property, member, thing))
    return found


def module_docs() -> list[str]:
    """What the modules of everything public say at the top."""
    names = sorted({one.function.__module__ for one in public()})
    return [importlib.import_module(name).__doc__ or "" for name in names]


def listing(names: list[str]) -> str:
    return "\n".join(names)


def test_the_pages_list_the_package():
    assert len(public()) > 500
    assert sum(one.is_class for one in public()) > 80


def test_everything_public_has_a_summary():
    bare = [one.name for one in public() if not re.match(r"\S.*[.:`)]", one.text, re.DOTALL)]
    assert not bare, listing(bare)


def test_everything_public_is_shown_in_a_doctest():
    """Its own, its class's or module's, that of what returns it, or of what it overrides."""
    shown = " ".join(one.returns for one in public() if ">>> " in one.text)
    lines = re.findall(r"(?m)^>>> .*", "\n".join(module_docs()))
    called = {name for line in lines for name in re.findall(r"\b(\w+)\(", line)}
    without = {
        one.name
        for one in public()
        if not one.is_property
        and ">>> " not in one.text
        and not (one.owner and re.search(rf"(?m)(>>>|\.\.\.).*\.{one.short}\b", one.around))
        and not (one.owner and any(hasattr(base, one.short) for base in one.owner.__mro__[1:]))
        and not (one.is_class and re.search(rf"\b{one.short}\b", shown))
        and not (one.owner is None and one.short in called)
    }
    excused = {name for names in NO_DOCTEST.values() for name in names}
    assert without <= excused, listing(sorted(without - excused))
    assert excused <= without, "excused, but it has a doctest"


def test_array_arguments_are_named_in_the_docstring():
    """In a list of parameters or in a sentence; or they are those of another function."""
    silent = [
        f"{one.name}: {name}"
        for one in public()
        for name in one.arrays
        if not re.search(rf"(?m)^[\w,* ]*\b{name}\b[\w,* ]*( : |\n +\S)|`{name}`", one.around)
        and not re.search(r"(?i)(arguments|shapes?)\b.* as in\s|\bAs :func:", one.text)
    ]
    assert not silent, listing(silent)


def test_arrays_have_shapes():
    without = [
        one.name
        for one in public()
        if (one.arrays or re.search(ARRAY, one.returns)) and not re.search(SHAPE, one.around)
    ]
    assert not without, listing(without)


def test_several_results_are_named():
    """A tuple has a section that names its parts, or a sentence that ends with how many."""
    without = [
        one.name
        for one in public()
        if re.match(r"tuple\[(?!.*\.\.\.)", one.returns)
        and not re.search(SECTION.format("(Returns|Yields)"), one.text)
        and not re.search(r"\band\b", one.text.partition("\n\n")[0])
    ]
    assert not without, listing(without)


def test_what_a_function_raises_beside_a_bad_argument_is_said():
    silent = []
    for one in public():
        if one.is_class:
            continue
        raised = set(re.findall(r"raise (\w+)", inspect.getsource(one.function)))
        silent += [
            f"{one.name}: {error}"
            for error in raised - {"ValueError", "TypeError"}
            if error not in one.around
        ]
    assert not silent, listing(silent)


# A relation, a sum or a power of e: more than the name of a symbol.
FORMULA = r":math:`[^`]*(=|\\le|\\ge|\\propto|\\sum|\\int|e\^|\^\{)[^`]*`|\.\. math::"
# A year stands behind a name; a standard deviation is no source.
YEAR = r"\b[A-Z][\w’'-]+,? (et al\.,? |and [A-Z][\w-]+,? )?\(?(19|20)\d\d\b"
SOURCE = rf"\(book, |{YEAR}|:func:`|\barXiv[: ]\d|\bstandard (?!deviation|error|normal)|the paper"


def test_a_formula_has_its_label_or_source():
    """Its own, its class's, or that of the function it points to."""
    without = [
        one.name
        for one in public()
        if re.search(FORMULA, one.text) and not re.search(SOURCE, one.around)
    ]
    assert sum(bool(re.search(FORMULA, one.text)) for one in public()) > 100
    assert not without, listing(without)


UNIT = r"(?i)\b((milli)?seconds?|bytes?|bits?|nats?|tokens?|per cent|a share of|over that of)\b"
MEASURE = r"(^|_)(n?bytes|bits|nats|seconds|perplexity|entropy|costs?|loss|losses)(_|$)"


def test_measures_name_their_unit():
    """What is called a time, a size of memory or an information says in what it is measured."""
    measures = [one for one in public() if not one.is_class and re.search(MEASURE, one.short)]
    assert len(measures) > 20
    silent = [one.name for one in measures if not re.search(UNIT, one.around)]
    assert not silent, listing(silent)


def test_words_that_only_contain_a_unit_or_a_year_name_none():
    for words in ("an arbitrary number", "taken into account", "unity", "secondhand nature"):
        assert not re.search(UNIT, words), words
    for words in ("a time in milliseconds", "nats a token", "a share of all"):
        assert re.search(UNIT, words), words
    for words in ("the standard deviation", "drawn with seed 2024", "a standard error"):
        assert not re.search(SOURCE, words), words
    for words in ("Rubinstein (1999)", "Su et al., 2021", "arXiv 2410.18441", "a standard result"):
        assert re.search(SOURCE, words), words
