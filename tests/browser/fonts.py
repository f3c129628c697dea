"""Sets of fonts that a reader may have, for a Chromium that knows no others."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

# Debian's fonts-dejavu-core, and with fonts-dejavu-extra the condensed and light faces.
CORE = ("DejaVuSans", "DejaVuSansMono", "DejaVuSerif")
CORE_FACES = {f"{name}{weight}.ttf" for name in CORE for weight in ("", "-Bold")}
SETS = ("core", "extra", "installed")  # installed: .ci/run adds fonts-noto-cjk
PHONE = {"width": 360, "height": 740}
CONFIG = """\
<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig>
  <dir>{fonts}</dir>
  <cachedir>{cache}</cachedir>
  <include ignore_missing="yes">/etc/fonts/conf.d</include>
</fontconfig>
"""


def files(name: str) -> list[Path]:
    """The installed files of the set ``name``; empty where its package is missing."""
    if not shutil.which("fc-list"):
        return []
    command = ["fc-list", "--format", "%{file}\n"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    dejavu = {Path(line).name: Path(line) for line in lines if Path(line).name.startswith("DejaVu")}
    if not dejavu.keys() >= CORE_FACES:
        return []
    if name == "core":
        return [dejavu[face] for face in sorted(CORE_FACES)]
    return [] if dejavu.keys() == CORE_FACES else sorted(dejavu.values())


def config(folder: Path, fonts: list[Path]) -> str:
    """The path of a fontconfig file, written to ``folder``, that knows only ``fonts``."""
    (folder / "fonts").mkdir()
    for font in fonts:
        (folder / "fonts" / font.name).symlink_to(font)
    target = folder / "fonts.conf"
    target.write_text(
        CONFIG.format(fonts=folder / "fonts", cache=folder / "cache"), encoding="utf-8"
    )
    return str(target)
