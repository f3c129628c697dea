"""The small font of icons has every icon that a page shows, however the theme writes it."""

from book._ext import icons


def test_icons_of_a_page_are_found_in_both_of_the_theme_s_forms():
    page = '<i class="fas fa-rocket"></i><button><span class="fa-solid fa-bars"></span></button>'
    assert {"rocket", "bars"} <= icons.names(page)
    assert icons.names('<p class="fa-none">fa-words</p>') == set()


def test_numbers_of_icons_are_read_from_the_style_sheet():
    style = '.fa-bars:before,.fa-navicon:before{content:"\\f0c9"}'
    assert icons.codes(style) == {"bars": 0xF0C9, "navicon": 0xF0C9}
