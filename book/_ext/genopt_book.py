"""Sphinx extension of the book: where its parts take hold of the build.

`viewers` reads the notebooks, `labels` the docstrings; `islands` has the explorers of a page,
`directives` what authors write, `theme` what is done otherwise than by the theme, and `sources`
tells which files a figure is made of.  `find` is the search, `icons` a small font, `claims` the
ledger of what is claimed and what bears it, `teaching` the tables of the instructor's page,
`licenses` the page of whose work the site carries.
"""

import claims
import directives
import find
import icons
import islands
import labels
import launch
import licenses
import published
import teaching
import theme
import viewers
from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict:
    app.add_directive("explorer", directives.ExplorerDirective)
    app.add_directive("claims", claims.ClaimsDirective)
    app.add_role("show", directives.ShowRole())
    app.add_directive("predict", directives.PredictDirective)
    app.add_directive("quiz", directives.QuizDirective)
    app.add_directive("exercises", teaching.ExercisesDirective)
    app.add_directive("sections", teaching.SectionsDirective)
    app.add_js_file("genopt/explore.js", loading_method="defer")
    app.add_css_file("genopt/explore.css")
    app.add_css_file("book.css")
    app.add_css_file("predict.css")
    app.add_css_file("print.css")
    app.add_js_file("predict.js", loading_method="defer")
    app.connect("source-read", viewers.read)
    app.connect("doctree-read", directives.fold_predicted)
    app.connect("env-check-consistency", viewers.numbers_agree)
    app.connect("builder-inited", islands.lay_out)
    app.connect("builder-inited", launch.lay_out, priority=600)  # once Pyodide is there
    app.connect("env-get-outdated", islands.outdated)
    app.connect("html-page-context", islands.fill, priority=600)
    app.connect("html-page-context", theme.without_thebe, priority=900)
    app.connect("html-page-context", theme.without_idle_scripts, priority=900)
    app.add_js_file(None, body=launch.FROM_FILE)
    app.add_config_value("book_lite", False, "html")
    app.connect("config-inited", launch.configure)
    app.connect("html-page-context", launch.button, priority=600)
    app.connect("build-finished", launch.only_pages)
    app.connect("html-page-context", published.add_card, priority=700)
    app.connect("html-page-context", published.add_foot, priority=700)
    app.connect("build-finished", published.lay_out)
    app.connect("html-collect-pages", licenses.page)
    app.connect("build-finished", licenses.check, priority=900)
    app.add_config_value("book_repository", "", "html")
    app.add_config_value("book_search", "", "html")
    app.connect("config-inited", find.use)
    app.setup_extension("sphinx.ext.autodoc")  # whose event the next line names
    app.connect("autodoc-process-docstring", labels.link)
    app.connect("autodoc-skip-member", labels.without_aliases)
    app.connect("missing-reference", theme.short_names)
    app.connect("build-finished", theme.without_font_preloads)
    app.connect("build-finished", icons.cut)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": False}
