// Colors of light pages as any drawing program reads them, in place of variables and mixtures.
import style from "../../style.json" with { type: "json" };

const LIGHT = new Map(Object.entries({ ...style.page, ...style.roles, ...style.cells }).map(([name, { light }]) => [name, light]));
const MIX = /^color-mix\(in (\w+), (\S+) ([\d.]+)%, ([^)]+\)?)\)$/;

/** ``{color, opacity}`` of a color as drawings have it; anything else stays as it is. */
export function plain(value) {
  const named = value.match(/^var\(--gx-([\w-]+)\)$/);
  if (named) return { color: LIGHT.get(named[1]), opacity: 1 };
  const [, space, one, percent, other] = value.match(MIX) ?? [];
  if (!space) return { color: value, opacity: 1 };
  const share = Number(percent) / 100;
  if (other === "transparent") return { color: plain(one).color, opacity: share };
  const [a, b] = [one, other].map((part) => (space === "oklab" ? toLab : (rgb) => rgb)(rgbOf(plain(part).color)));
  const mixed = a.map((v, i) => share * v + (1 - share) * b[i]);
  return { color: hexOf(space === "oklab" ? fromLab(mixed) : mixed), opacity: 1 };
}

/** Give every shape below ``node`` its plain colors. */
export function paintPlain(node) {
  for (const one of [node, ...node.querySelectorAll("*")]) {
    for (const name of ["fill", "stroke", "stop-color"]) {
      const value = one.getAttribute(name);
      if (!value) continue;
      const { color, opacity } = plain(value);
      one.setAttribute(name, color);
      if (opacity < 1) one.setAttribute(`${name.replace("-color", "")}-opacity`, opacity * Number(one.getAttribute(`${name}-opacity`) ?? 1));
    }
  }
}

const rgbOf = (hex) => {
  const digits = hex.length === 4 ? [...hex.slice(1)].map((d) => d + d).join("") : hex.slice(1);
  return [0, 2, 4].map((i) => parseInt(digits.slice(i, i + 2), 16) / 255);
};
const hexOf = (rgb) => `#${rgb.map((v) => Math.round(255 * Math.min(1, Math.max(0, v))).toString(16).padStart(2, "0")).join("")}`;

// Oklab, B. Ottosson, https://bottosson.github.io/posts/oklab/
const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
const curved = (v) => (v <= 0.0031308 ? 12.92 * v : 1.055 * v ** (1 / 2.4) - 0.055);
const times = (rows, v) => rows.map((row) => row.reduce((sum, weight, i) => sum + weight * v[i], 0));
const TO_CONES = [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566], [0.0883024619, 0.2817188376, 0.6299787005]];
const TO_LAB = [[0.2104542553, 0.793617785, -0.0040720468], [1.9779984951, -2.428592205, 0.4505937099], [0.0259040371, 0.7827717662, -0.808675766]];
const FROM_LAB = [[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.291485548]];
const FROM_CONES = [[4.0767416621, -3.3077115913, 0.2309699292], [-1.2684380046, 2.6097574011, -0.3413193965], [-0.0041960863, -0.7034186147, 1.707614701]];
const toLab = (rgb) => times(TO_LAB, times(TO_CONES, rgb.map(linear)).map(Math.cbrt));
const fromLab = (lab) => times(FROM_CONES, times(FROM_LAB, lab).map((v) => v ** 3)).map(curved);
