"""`make bench` makes every stored result that was made on a processor, by commands that exist."""

import importlib.util

from places import RESULTS

from book.experiments.common import store
from book.experiments.site import bench

EXPERIMENTS = "book.experiments."
OTHER_FILE = {"--peer-files"}  # options with which a script writes another result


def made(command: str) -> set[str]:
    """What a command runs: module, words before its options, and options of `OTHER_FILE`."""
    module, *words = command.split()
    plain = words[: next((i for i, word in enumerate(words) if word[0] == "-"), len(words))]
    return {module, *plain, *(OTHER_FILE & set(words))}


STEPS = [made(step) for step in bench.STEPS]


def commands(path) -> list[str]:
    """What made a result; the oldest, of the cache, are named after their module."""
    told = store.read(path).get("provenance") or {}
    if "command" not in told:
        folder, _, module = path.stem.partition("_")
        assert folder == "kv", path.name
        return [f"kvcache.{module}"]
    found = told["command"].split("; ")
    return [one.removeprefix("python -m ").removeprefix(EXPERIMENTS) for one in found]


def test_every_result_of_a_processor_has_a_step():
    without, on_processor = [], 0
    for path in sorted(RESULTS.glob("*.json")):
        ran = commands(path)
        machine = str((store.read(path).get("provenance") or {}).get("machine", "x86_64"))
        if "--device cuda" in " ".join(ran) or "NVIDIA" in machine:
            continue
        on_processor += 1
        if not any(made(one) in STEPS for one in ran):
            without.append(f"{path.name}: {'; '.join(ran)}")
    assert without == []
    assert on_processor > 25


def test_every_step_is_a_module_once():
    assert len(set(bench.STEPS)) == len(bench.STEPS)
    for step in bench.STEPS:
        assert importlib.util.find_spec(EXPERIMENTS + step.split()[0]), step
