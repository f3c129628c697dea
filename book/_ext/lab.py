"""Configuration of JupyterLab for the book; `make lab` names this file.

Opening and saving a notebook changes no byte of it.  JupyterLab writes the version of Python and
traces of its own into what it saves: here it finds the version when it opens a notebook, so that it
sees nothing to change, and what is saved has the form that ``refresh.py`` stores.
"""

import platform
import sys
from pathlib import Path
from typing import Any

from jupyter_server.serverapp import ServerApp
from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager

sys.path.append(str(Path(__file__).resolve().parent))
from refresh import BOOK, METADATA, TRANSIENT


class Contents(AsyncLargeFileManager):
    """Files of the book, its notebooks in the form that is under version control."""

    async def get(self, path: str, content: bool = True, **more: Any) -> dict[str, Any]:
        model = await super().get(path, content=content, **more)
        if model["type"] == "notebook" and content:
            metadata = model["content"]["metadata"]
            if metadata == METADATA:
                metadata["language_info"]["version"] = platform.python_version()
        return model

    async def save(self, model: dict[str, Any], path: str = "") -> dict[str, Any]:
        if model.get("type") == "notebook" and model.get("content"):
            model["content"]["metadata"].get("language_info", {}).pop("version", None)
            for cell in model["content"]["cells"]:
                for key in TRANSIENT:
                    cell["metadata"].pop(key, None)
        return await super().save(model, path)


c = get_config()  # type: ignore[name-defined]  # noqa: F821  what runs this file defines it
c.ServerApp.contents_manager_class = Contents
c.ServerApp.root_dir = str(BOOK)
c.LabApp.default_url = "/lab/tree/START.ipynb"
# no news and no look for a newer version: the book asks no other server for anything
c.LabApp.app_settings_dir = str(BOOK / "_ext" / "lab_settings")
# pictures follow JupyterLab's light and dark; only the user's own folder may have a custom.css else
ServerApp.static_custom_path.tag(config=True)
c.ServerApp.static_custom_path = [str(BOOK / "_ext" / "lab_settings")]
c.LabApp.custom_css = True
# what is no reading stays out of the list of files
c.ContentsManager.hide_globs = ["__pycache__", "_*", "assets", "*.bib", "*.pyc", "*~"]
