"""One spelling, American, in what people read: pages, messages, comments."""

import re
import subprocess

from places import ROOT

BRITISH = re.compile(
    r"\b\w*(?:(?:quant|minim|maxim|optim|normal|initial|token|organ|recogn|general|regular|random"
    r"|penal|real|factor|vector|character|standard|summar|visual)is(?:e[ds]?|ing|er|ers|ation)"
    r"|analys(?:e[ds]?|ing)|[a-z]?colour|neighbour|behaviour|favour|labelled|modelled|modelling"
    r"|centred?|grey|artefact|licence|honour)\w*",
    re.IGNORECASE,
)
# Public before the rule was: names of functions, tables, fields and what is stored under them.
KEPT = re.compile(
    r"\b\w*normalised_regret\b|\b\w*_neighbours\b|\bneighbours\b|neighbouring words"
    r"|[\"']licence[\"']|[\"']optimiser[\"']|aria-labelledby"
    r"|\bcentre(?:, shift = rng| - shift\[opt\])"  # of a problem whose code is frozen by its hash
)
READ = {".md", ".py", ".js", ".mjs", ".css", ".ipynb", ".toml", ".yml", ".html"}
# Texts of others, and what is made.
OTHERS = ("book/references.bib", "package-lock.json", "tests/book/test_spelling.py")


def test_one_spelling():
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    found = []
    for name in listed:
        path = ROOT / name
        if path.suffix not in READ or name.endswith(OTHERS) or not path.is_file():
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            found += [f"{name}:{number}: {m[0]}" for m in BRITISH.finditer(KEPT.sub("", line))]
    assert found == []
