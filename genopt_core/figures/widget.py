"""An explorer in a notebook, an anywidget whose kernel recomputes, and its island on a page."""

import html
import json
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from genopt_core.figures.registry import Explorer

WEB = Path(__file__).parent / "web" / "dist"
MIME = "application/vnd.genopt.explorer+json"


def island(explorer: Explorer, params: dict[str, Any]) -> str:
    """The HTML that stands for an explorer on a page: the book build and the front end fill it.

    Without either it reads as the title and the readout.
    """
    result = explorer.run(params)
    figure = result.get("figure")
    sentence = f"{figure['title']}. {figure['readout']}" if figure else result["error"]
    return (
        f'<div class="genopt-explorer" data-explorer="{html.escape(explorer.name)}"'
        f' data-params="{html.escape(json.dumps(params, ensure_ascii=False))}">'
        f"<p>{html.escape(sentence)}</p></div>"
    )


def _front_end(file: str) -> str:
    path = WEB / file
    if not path.is_file():
        raise FileNotFoundError(
            f"{path.name} has not been built: run `make book` (or `npm ci && npm run build` in "
            f"genopt_core/figures/web) once"
        )
    return path.read_text(encoding="utf-8")


class ExplorerWidget(anywidget.AnyWidget):
    """``explorer``, live: moving a control sets ``params``, the kernel sets ``result``."""

    _esm = traitlets.Unicode().tag(sync=True)
    _css = traitlets.Unicode().tag(sync=True)
    description = traitlets.Dict().tag(sync=True)
    params = traitlets.Dict().tag(sync=True)
    result = traitlets.Dict().tag(sync=True)

    def __init__(self, explorer: Explorer, **params: Any) -> None:
        full = explorer.check(params)
        self._explorer = explorer
        self._given = dict(params)
        super().__init__(
            description=explorer.describe(),
            params=full,
            result=explorer.run(full),
            _esm=_front_end("explore.mjs"),
            _css=_front_end("explore.css"),
        )

    @traitlets.observe("params")
    def _recompute(self, change: Any) -> None:
        self.result = self._explorer.run(change["new"])

    def __repr__(self) -> str:
        given = [f"{name}={value!r}" for name, value in self._given.items()]
        call = ", ".join([repr(self.description["name"]), *given])
        sentence = self.result.get("error") or self.result["figure"]["readout"]
        return f"explore({call})\n{sentence}"

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = super()._repr_mimebundle_(**kwargs)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle or {}, {})
        data["text/plain"] = repr(self)
        data[MIME] = {"name": self._explorer.name, "params": self._given}
        return data, metadata
