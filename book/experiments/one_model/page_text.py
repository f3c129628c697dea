"""What the model in the page has read before a reader's own words: held-out text, stored.

python -m book.experiments.one_model.page_text
"""

from book.experiments.common.places import TABLES
from book.experiments.common.store import write_json
from book.experiments.one_model.text import HELD
from genopt_core import corpora

START, END = "Seven years have passed", "It remains our charge to keep. "


def passage() -> str:
    """The first sentences of an address of the held-out part."""
    content = corpora.load("sotu")
    held = content[content.rindex(" ", 0, round((1 - HELD) * len(content))) + 1 :]
    first = held.index(START)
    return held[first : held.index(END, first) + len(END)]


def main() -> None:
    write_json(
        TABLES / "one_model_page.json",
        {
            "origin": "book/experiments/one_model/page_text.py",
            "text": "sotu",
            "passage": passage(),
        },
    )


if __name__ == "__main__":
    main()
