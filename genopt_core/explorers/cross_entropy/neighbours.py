"""Explorer of chapter 2: neighbors of a word before and after tuning word2vec."""

import numpy as np

from genopt_core import tables
from genopt_core.explorers.panels import bars
from genopt_core.figures.controls import Choice
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure

WORDS = ("war", "president", "bank", "army", "school", "ship", "peace", "gold")


@explorer(
    "w2v-neighbours",
    Choice("word", "Word", WORDS, help="Trained on the State of the Union addresses."),
    title="Neighbors of a word before and after tuning",
    alt="Two bar charts side by side: the eight nearest words and their cosine, in each setting.",
    presets=(
        Preset("war", {}),
        Preset("bank", {"word": "bank"}),
        Preset("school", {"word": "school"}),
        Preset(
            "gold: all alike before tuning",
            {"word": "gold"},
            "Before tuning all cosines are near 1: the vectors hardly differ, whatever the word.",
            fails=True,
        ),
    ),
)
def w2v_neighbours(word: str) -> Figure:
    """Nearest words in two stored trainings on the State of the Union."""
    table = tables.load("word2vec_neighbours")
    when = ("before", "after")
    near = {label: table[label]["neighbours"][word] for label in when}
    words = {label: ", ".join(name for name, _ in near[label][:3]) for label in when}
    mean = {label: np.mean(table[label]["scores"]["wordsim353"]) for label in when}
    panels = [
        bars(
            {f"{place} {name}": cosine for place, (name, cosine) in enumerate(near[label], 1)},
            Axis("cosine", domain=(0, 1.2), ticks=[0, 0.5, 1]),
            numbers=[f"{cosine:.2f}" for _, cosine in near[label]],
            horizontal=True,
            title=f"{label.capitalize()} tuning",
            height=230,
        )
        for label in when
    ]
    return Figure(
        title=f"Nearest to {word}",
        panels=panels,
        readout=(
            f"Next to {word} stand {words['before']} before tuning and {words['after']} after; the "
            f"correlation with WordSim-353 goes from {mean['before']:.2f} to {mean['after']:.2f}, "
            f"mean of {len(table['origin']['seeds'])} seeds."
        ),
        cost=(
            f"{np.mean(table['before']['scores']['cpu_seconds']):.1f} and "
            f"{np.mean(table['after']['scores']['cpu_seconds']):.1f} CPU seconds a training"
        ),
        layout="row",
    )
