// The colors of style.json as CSS variables.  explore.css says where they go: "@colors light;".
import style from "../style.json" with { type: "json" };

const COLORS = Object.entries({ ...style.page, ...style.roles, ...style.cells });
const THEMES = {
  // a page or JupyterLab may bring its own background and ink
  light: ({ light, host }) => hosted(light, host),
  dark: ({ dark, host }) => hosted(dark, host),
  // no page theme: only the system says that it is dark
  system: ({ dark }) => dark,
  print: ({ light, print = light }) => print,
};

const hosted = (color, host = []) => host.reduceRight((inner, name) => `var(${name}, ${inner})`, color);

/** ``css`` with every ``@colors THEME;`` replaced by the declarations of that theme. */
export function colored(css) {
  return css.replace(/@colors (\w+);/g, (_, theme) => {
    const declared = COLORS.map(([name, color]) => `--gx-${name}: ${THEMES[theme](color)};`);
    return [...declared, `color-scheme: ${theme === "dark" || theme === "system" ? "dark" : "light"};`].join(" ");
  });
}
