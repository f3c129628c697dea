"""Command line: ``python -m genopt_core.subwords train|encode|decode|certify``.

Results go to the standard output or, whole or not at all, to the file named by ``-o``; progress and
errors go to the error stream.  ``-`` as FILE is the standard input, and after ``-o`` the output.
Exit codes: 0 done, 1 something is wrong with a file or its contents, 2 wrong usage.
"""

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import genopt_core
from genopt_core.conventions import NAMES, OURS
from genopt_core.subwords.choosing import LEAST_COUNTS
from genopt_core.subwords.commands import (
    certify_command,
    check_target,
    decode_command,
    encode_command,
    train_command,
)
from genopt_core.subwords.training.trainer import TOKENS_FIRST

EXAMPLES = """\
examples:
  python -m genopt_core.subwords train corpus.txt --size 8000 -o tokenizer.json
  python -m genopt_core.subwords train corpus.txt --size 8000 --transformers folder
  python -m genopt_core.subwords train *.py --size 8000 --convention gpt4 -o tokenizer.json
  python -m genopt_core.subwords train corpus.txt --size 8000 --development other.txt -o t.json
  python -m genopt_core.subwords encode page.txt -t tokenizer.json -o page.ids
  python -m genopt_core.subwords decode page.ids -t tokenizer.json
  zcat corpus.gz | python -m genopt_core.subwords train - --size 8000 -o tokenizer.json
  python -m genopt_core.subwords certify corpus.txt --size 8000 -t tokenizer.json

All texts are UTF-8.  tokenizer.json is Hugging Face's format.  - as FILE is the standard input, and
after -o the output (./- a file of that name).  Exit codes: 0 done, 1 something is wrong with a file
or its contents, 2 wrong usage.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        check_target(options.output)  # before hours of work
        options.command(options)
    except BrokenPipeError:  # the reader of the standard output has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except (ValueError, OSError) as error:
        print(f"error: {_message(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: interrupted, nothing was written", file=sys.stderr)
        return 130
    return 0


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{os.fspath(error.filename)}: {error.strerror}"
    return str(error)


def _at_least_one(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, got {text!r}") from None
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"must be a positive number, got {text!r}")
    return int(number) if number.is_integer() else number


def _in_unit_interval(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"must be a number in 0..1, got {text!r}")
    return number


def _objective(text: str) -> Any:
    if text in ("likelihood", "tokens"):
        return text
    try:
        weight = float(text)
    except ValueError:
        weight = -1.0
    if not 0 <= weight <= TOKENS_FIRST:
        raise argparse.ArgumentTypeError(
            f"must be 'likelihood', 'tokens' or a penalty in 0..{TOKENS_FIRST:g}, got {text!r}"
        )
    return weight


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m genopt_core.subwords",
        description="Optimal sub-word encoding: train a vocabulary, use it, certify its size.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=genopt_core.__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[[argparse.Namespace], None]) -> argparse.ArgumentParser:
        about = (command.__doc__ or "").rstrip(".")
        sub = commands.add_parser(
            name,
            help=about[0].lower() + about[1:],
            description=about + ".",
            epilog=EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(command=command)
        sub.add_argument("-q", "--quiet", action="store_true", help="no progress")
        return sub

    train, certify = add("train", train_command), add("certify", certify_command)
    for sub in (train, certify):
        sub.add_argument("files", nargs="+", metavar="FILE", help="UTF-8 text (-: standard input)")
        sub.add_argument(
            "--size",
            type=_at_least_one,
            required=True,
            help="pieces, characters included; a tokenizer has 257 more ids (256 bytes and <unk>) "
            "and one for each special token",
        )
        rule = sub.add_mutually_exclusive_group()
        rule.add_argument(
            "--convention",
            choices=[name for name in NAMES if name != "regex"],
            help="what a word is. lossless: runs of letters or digits and single marks, with the "
            "blank after them; lossless-front: with the blank before them; textbook: lower-case "
            "letters only; gpt2, gpt4, o200k: the published rules, for source code too; none: "
            "lines (default: lossless; of certify: that of the tokenizer)",
        )
        rule.add_argument("--pattern", metavar="REGEX", help="a word, by an expression of your own")
        sub.add_argument(
            "--alphabet",
            choices=("characters", "bytes"),
            help="what a piece is made of; in bytes, all 256 are pieces and nothing is unknown "
            f"(default: characters for {', '.join(OURS)}, else bytes)",
        )
        sub.add_argument(
            "--workers", type=_at_least_one, default=1, help="processes that count (default: 1)"
        )
    often = train.add_mutually_exclusive_group()
    often.add_argument(
        "--min-count",
        type=_positive,
        metavar="N",
        help="only pieces that occur N times (default: one in 300,000 words, at least twice)",
    )
    often.add_argument(
        "--development",
        metavar="FILE",
        help="a text of the same kind that is not trained on: its cost by --objective chooses "
        "--min-count among "
        f"{', '.join(f'{least:g}' for least in LEAST_COUNTS)}, one training each, then one more",
    )
    certify.add_argument(
        "--min-count",
        type=_positive,
        metavar="N",
        help="a second bound, of vocabularies whose pieces occur N times, as those of train do",
    )
    train.add_argument(
        "--file-exponent",
        type=_in_unit_interval,
        default=1.0,
        metavar="E",
        help="0..1: n occurrences of a word in one FILE count as n to this power; for a few "
        "megabytes of source code in many files, 0.5. --min-count then applies to these weights "
        "(default: 1, plain counts)",
    )
    train.add_argument(
        "--new-words",
        action=argparse.BooleanOptionalAction,
        help="choose for the text that comes next, words included that are not in FILE; of eight "
        "files or more, whole ones are left out in turn. Takes a few times as long (default: for "
        "a small corpus, without --min-count)",
    )
    train.add_argument(
        "--max-piece",
        type=_at_least_one,
        default=16,
        metavar="N",
        help="characters, or bytes, of the longest piece; 32 for indented code (default: 16)",
    )
    target = train.add_mutually_exclusive_group(required=True)
    target.add_argument("-o", "--output", help="tokenizer.json to write (-: standard output)")
    target.add_argument(
        "--transformers",
        metavar="DIR",
        help="folder to write for AutoTokenizer.from_pretrained: tokenizer.json, and the roles of "
        "its special tokens",
    )
    train.add_argument(
        "--at-most",
        action="store_true",
        help="fewer pieces than --size if the text has not so many",
    )
    train.add_argument(
        "--objective",
        type=_objective,
        default="likelihood",
        help="likelihood, tokens, or a token penalty in nats (default: likelihood)",
    )
    train.add_argument(
        "--special",
        action="append",
        default=[],
        metavar="TOKEN",
        help="a special token, at which the text is cut; repeatable",
    )
    for name, role, usual in (
        ("--bos", "begins a text", ""),
        ("--eos", "ends a text", " (with --transformers: </s>)"),
        ("--pad", "fills a batch", " (with --transformers: <pad>)"),
    ):
        train.add_argument(name, metavar="TOKEN", help=f"special token that {role}{usual}")
    certify.add_argument(
        "-t",
        "--tokenizer",
        help="tokenizer.json, or the folder it is in, to measure against the bound",
    )
    certify.add_argument("-o", "--output", help=".npz file for the prices that prove the bound")
    certify.add_argument(
        "--steps", type=_at_least_one, default=300, help="more give a better bound (default: 300)"
    )

    encode, decode = add("encode", encode_command), add("decode", decode_command)
    encode.add_argument("file", metavar="FILE", help="UTF-8 text (-: standard input)")
    encode.add_argument("--pieces", action="store_true", help="write pieces in place of ids")
    encode.add_argument(
        "--no-specials", action="store_true", help="read names of special tokens as plain text"
    )
    decode.add_argument(
        "file", metavar="FILE", help="token ids, apart by blanks or line feeds (-: standard input)"
    )
    for sub in (encode, decode):
        sub.add_argument(
            "-t",
            "--tokenizer",
            required=True,
            help="tokenizer.json to use, or the folder it is in",
        )
        sub.add_argument("-o", "--output", help="file to write (default, and -: standard output)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
