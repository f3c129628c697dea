"""A page pays for the figures it shows: importing one reads no table and nothing heavy."""

import subprocess
import sys

import pytest

from genopt_core import explorers

PROGRAM = """
import sys
from importlib import import_module
from genopt_core import explorers, tables

for module in {modules}:
    import_module("genopt_core.explorers." + module)
assert tables._read.cache_info().currsize == 0, "a table was read at import"
heavy = {{"scipy", "torch", "matplotlib", "optuna", "gensim"}} & set(sys.modules)
assert not heavy, heavy
print(*(name for name in sys.modules if name.startswith("genopt_core.")))
"""


def loaded(*modules):
    program = PROGRAM.format(modules=modules)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_no_figure_reads_a_table_or_loads_a_heavy_library_at_import():
    loaded(*explorers.MODULES.values())


@pytest.mark.parametrize("name", ["subword-frontier", "kv-layers", "w2v-neighbours"])
def test_a_figure_of_stored_results_loads_no_other_chapter(name):
    module = explorers.MODULES[name]
    rooms = {"subwords", "cross_entropy", "kvcache", "word2vec", "positions", "torch"}
    strange = rooms - {module.split(".")[0]}
    assert not {part for name in loaded(module) for part in name.split(".")} & strange
