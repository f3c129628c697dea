"""The theme's icons: a font with the twenty that pages show, in place of Font Awesome's thousands.

The theme draws them with Font Awesome's script (1.5 MB) or its fonts (300 kB).  The icons that the
built pages name, and those that the theme's style names by number, fit into a style sheet of a few
kilobytes, which also works for pages that are opened as files.
"""

import base64
import io
import re
import shutil
from pathlib import Path

from fontTools import subset
from sphinx.application import Sphinx

from genopt_core.files import write_text

NAMED = re.compile(r"\bfa-([a-z0-9-]+)")
NUMBERED = re.compile('[\uf000-\uf8ff]|(?<=\\\\)f[0-9a-f]{3}(?=")')
LINK = re.compile(r'href="([^"]*_static/)vendor/fontawesome/[^"]*"')
SCRIPT = re.compile(r'\s*<script src="[^"]*_static/vendor/fontawesome/[^"]*"></script>')
STYLE = """\
/* From Font Awesome Free 6 by @fontawesome, https://fontawesome.com/license/free: icons CC BY 4.0,
   font SIL OFL 1.1, code MIT; cut to what these pages show. */
@font-face {{
  font-family: "Font Awesome 6 Free"; font-weight: 900;
  src: url("data:font/woff;base64,{font}") format("woff");
}}
:root {{ --fa-font-solid: 900 1em/1 "Font Awesome 6 Free"; }}
.fas, .fa-solid {{
  display: inline-block; font: var(--fa-font-solid); -webkit-font-smoothing: antialiased;
}}
.fa-lg {{ font-size: 1.25em; line-height: .05em; vertical-align: -.075em; }}
"""


def codes(style: str) -> dict[str, int]:
    """Numbers of the icons by name, read from Font Awesome's own style sheet."""
    rules = re.findall(r'([^{}]+)\{content:"\\([0-9a-f]+)"\}', style)
    return {
        name: int(code, 16)
        for names, code in rules
        for name in re.findall(r"\.fa-([\w-]+):before", names)
    }


def names(page: str) -> set[str]:
    """The icons that the HTML of a page shows; the theme writes ``<i>`` for most, not for all."""
    shown = re.findall(r"<(?:i|span)\b[^>]*>", page)
    return {name for tag in shown for name in NAMED.findall(tag)}


def woff(font: Path, wanted: set[int]) -> bytes:
    """``font`` with the characters ``wanted`` alone."""
    options = subset.Options(flavor="woff", recalc_timestamp=False, layout_features=[])
    loaded = subset.load_font(str(font), options)
    small = subset.Subsetter(options)
    small.populate(unicodes=wanted)
    small.subset(loaded)
    target = io.BytesIO()
    subset.save_font(loaded, target, options)
    return target.getvalue()


def cut(app: Sphinx, problem: Exception | None) -> None:
    """Write ``icons.css`` for the icons in use, let pages load it, and throw the rest away."""
    static = Path(app.outdir) / "_static"
    vendor = static / "vendor" / "fontawesome"
    if problem or app.builder.format != "html" or not vendor.is_dir():
        return
    [sheet], [font] = vendor.rglob("all.min.css"), vendor.rglob("fa-solid-900.ttf")
    code_of = codes(sheet.read_text(encoding="utf-8"))
    named: set[str] = set()
    for page in Path(app.outdir).rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        named |= names(text)
        better = SCRIPT.sub("", LINK.sub(r'href="\1icons.css"', text))
        if better != text:
            write_text(page, better)
    used = {name: code_of[name] for name in sorted(named & code_of.keys())}
    styles = "".join(path.read_text(encoding="utf-8") for path in (static / "styles").glob("*.css"))
    by_number = {ord(it) if len(it) == 1 else int(it, 16) for it in NUMBERED.findall(styles)}
    data = base64.b64encode(woff(font, {*used.values(), *by_number})).decode()
    rules = [f'.fa-{name}::before {{ content: "\\{code:x}" / ""; }}' for name, code in used.items()]
    write_text(static / "icons.css", STYLE.format(font=data) + "\n".join(rules) + "\n")
    shutil.rmtree(vendor)
