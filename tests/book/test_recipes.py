"""The recipes of the API's last page run as printed, and what they say of files is so."""

import doctest
import json
import re
import subprocess
import sys

import pytest
from places import BOOK

PAGE = (BOOK / "api" / "recipes.md").read_text(encoding="utf-8")
RECIPES = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
OPTIONAL = ("torch", "transformers", "optuna")
# Run with nothing beside NumPy: whatever else is installed is not to be found.
ALONE = """
import doctest, json, sys

class OnlyNumPy:
    allowed = {*sys.stdlib_module_names, "numpy", "genopt_core"}

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in self.allowed:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, OnlyNumPy())
said = []
for name, code in json.load(sys.stdin).items():
    test = doctest.DocTestParser().get_doctest(code, {}, name, "recipes.md", 0)
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=said.append)
sys.exit("".join(said) or 0)
"""


def code(recipe: str) -> str:
    return "".join(re.findall(r"```python\n(.*?)```", RECIPES[recipe], re.DOTALL))


def test_there_are_ten_and_more():
    assert len([recipe for recipe in RECIPES if code(recipe)]) >= 10


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_runs_as_printed(recipe, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in OPTIONAL:
        if re.search(rf"^>>> (?:import|from) {name}\b", code(recipe), re.MULTILINE):
            pytest.importorskip(name)
    test = doctest.DocTestParser().get_doctest(code(recipe), {}, recipe, "recipes.md", 0)
    assert test.examples
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    said: list[str] = []
    runner.run(test, out=said.append)
    assert not said, "".join(said)


def test_recipes_name_the_extra_that_brings_what_they_import():
    for recipe in RECIPES:
        imported = re.findall(r"^>>> (?:import|from) (\w+)", code(recipe), re.MULTILINE)
        if set(imported) & set(OPTIONAL):
            assert re.search(r'Needs `"\./genopt_core\[\w+\]"`', RECIPES[recipe]), recipe


def test_recipes_that_name_no_extra_need_only_numpy(tmp_path):
    alone = {name: code(name) for name, text in RECIPES.items() if "Needs `" not in text}
    assert len(alone) >= 8
    command = [sys.executable, "-c", ALONE]
    done = subprocess.run(
        command, input=json.dumps(alone), cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_cache_as_a_custom_generate_of_a_folder(tmp_path):
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from oracles.models import tiny

    (file,) = re.findall(r"```py\n(.*?)```", PAGE, re.DOTALL)
    folder = tmp_path / "custom_generate"
    folder.mkdir()
    (folder / "generate.py").write_text(file, encoding="utf-8")
    model, prompt = tiny(), torch.ones(1, 8, dtype=torch.long)
    asked = {"max_new_tokens": 4, "do_sample": False, "trust_remote_code": True}
    out = model.generate(prompt, custom_generate=str(tmp_path), ladder="16/4", **asked)
    assert out.shape == (1, 12)
    with pytest.raises(ValueError, match="ladder"):
        model.generate(prompt, custom_generate=str(tmp_path), ladder="4/16", **asked)
