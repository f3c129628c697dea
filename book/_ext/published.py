"""What a published book has beside its pages: a card for links to it, a site map, a page for 404.

The first two need the address of the site for some of their lines: ``html: baseurl`` in
``_config.yml``.  Without it a card has no picture, as pictures of cards have whole addresses, and
there is no site map.
"""

import html
import re
from pathlib import Path
from urllib.parse import quote

from sphinx.application import Sphinx

import genopt_core
from genopt_core.files import write_text

CARD = "_static/card.png"
STABLE = "api/index.html", "#what-is-stable"
LONGEST = 200

NOT_FOUND = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<meta name="color-scheme" content="light dark">
<title>No such page · {title}</title>
<style>
body {{ font: 1.1rem/1.6 system-ui, sans-serif; max-width: 36rem; margin: 15vh auto }}
main {{ padding: 0 1rem }}
</style>
</head>
<body>
<main>
<h1>There is no such page</h1>
<p>It may have moved, or the address has a slip of the pen.</p>
<ul>
<li><a data-page="index.html" href="{root}index.html">The book from its beginning</a></li>
<li><a data-page="search.html" href="{root}search.html">Search in it</a></li>
</ul>
</main>
<script>
// A server shows this page at any depth: the book begins where this style sheet is found.
(async () => {{
  let place = new URL(".", location);
  for (;;) {{
    const found = await fetch(new URL("_static/genopt/explore.css", place), {{ method: "HEAD" }});
    if (found.ok) break;
    const above = new URL("..", place);
    if (above.href === place.href) return;
    place = above;
  }}
  for (const link of document.querySelectorAll("[data-page]"))
    link.href = new URL(link.dataset.page, place);
}})();
</script>
</body>
</html>
"""


def beginning(body: str) -> str:
    """The first paragraph of a page as plain text, cut after a word; empty if there is none."""
    for paragraph in re.findall(r"<p>(.*?)</p>", body, re.DOTALL):
        text = html.unescape(re.sub(r"<[^>]+>", "", paragraph))
        text = " ".join(text.split())
        if len(text) > 40 and "\\(" not in text:
            break
    else:
        return ""
    if len(text) > LONGEST:
        text = text[: LONGEST - 1].rsplit(" ", 1)[0].rstrip(",;:") + " …"
    return text


def card(title: str, site: str, text: str, base: str, page: str) -> str:
    """The lines of a page's head from which others draw a card where somebody links to it."""
    plain = html.unescape(re.sub(r"<[^>]+>", "", title)).strip()
    said = {"og:type": "article", "og:site_name": site, "og:title": plain or site}
    said |= {"og:description": text} if text else {}
    if base:
        said["og:url"] = f"{base.rstrip('/')}/{quote(page)}.html"
        said["og:image"] = f"{base.rstrip('/')}/{CARD}"
        said["og:image:alt"] = "All ways to cut a word, the cheapest one drawn thick"
    lines = [f'<meta property="{name}" content="{html.escape(v)}"/>' for name, v in said.items()]
    lines.append(
        f'<meta name="twitter:card" content="{"summary_large_image" if base else "summary"}"/>'
    )
    if text:
        lines.append(f'<meta name="description" content="{html.escape(text)}"/>')
    return "\n".join(lines) + "\n"


def add_card(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    """Title, beginning and picture of a page, for cards and for what search engines show."""
    if doctree is None:
        return
    text = beginning(context.get("body", ""))
    base = app.config.html_baseurl
    lines = card(context.get("title", ""), app.config.html_title, text, base, page)
    context["metatags"] = context.get("metatags", "") + lines


def add_foot(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    """Version, what is stable, licenses and repository at the foot of every page."""
    address = app.config.book_repository
    repository = f' · <a href="{html.escape(address)}">Repository</a>' if address else ""
    page = context["pathto"](STABLE[0], 1)  # it drops fragments
    stable = page.partition("#")[0] + STABLE[1]  # of the page itself it is one
    context["theme_extra_footer"] = (
        f'<p>GenOpt {genopt_core.__version__} (<a href="{stable}">what is stable</a>) · '
        f'Code: MIT · Text and figures: CC BY 4.0 · <a href="{context["pathto"]("licenses", 0)}">'
        f"licenses of all that comes with it</a>{repository}"
        "<br/>Nothing on these pages asks another server for anything.</p>"
    )


def site_map(base: str, pages: list[str]) -> str:
    """``sitemap.xml`` with the address of every page."""
    rows = [f"  <url><loc>{base.rstrip('/')}/{quote(page)}.html</loc></url>" for page in pages]
    head = '<?xml version="1.0" encoding="utf-8"?>'
    space = "http://www.sitemaps.org/schemas/sitemap/0.9"
    return "\n".join([head, f'<urlset xmlns="{space}">', *rows, "</urlset>", ""])


def lay_out(app: Sphinx, problem: Exception | None) -> None:
    if problem or app.builder.format != "html":
        return
    out, base = Path(app.outdir), app.config.html_baseurl
    root = f"{base.rstrip('/')}/" if base else "/"
    title = html.escape(app.config.html_title)
    write_text(out / "404.html", NOT_FOUND.format(title=title, root=html.escape(root)))
    write_text(out / ".nojekyll", "")  # on GitHub Pages folders that begin with _ are served too
    if base:
        write_text(out / "sitemap.xml", site_map(base, sorted(app.env.found_docs)))
    else:
        (out / "sitemap.xml").unlink(missing_ok=True)
