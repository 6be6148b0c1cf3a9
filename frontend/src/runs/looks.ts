/** How runs are told apart: by colour and by the pattern of the line. */

import { svg } from "../dom";

export interface Look {
  color: string;
  /** Lengths of dash and gap, CSS px; none: drawn through. */
  dash: number[];
}

/** At least 4:1 on white, and apart for those who see colours otherwise (dashes do the rest). */
const COLORS = ["#0b5fa5", "#c2410c", "#0f766e", "#9d2f7f", "#1d2327", "#7a5c00"];
const DASHES = [[], [9, 5], [2, 4], [12, 4, 2, 4], [5, 3], [14, 4, 2, 4, 2, 4], [1, 5]];

export function look(place: number): Look {
  return { color: COLORS[place % COLORS.length] ?? "#000", dash: DASHES[place % DASHES.length] ?? [] };
}

/** A piece of the line, for legends. */
export function swatch({ color, dash }: Look): SVGSVGElement {
  return svg(
    "svg",
    { class: "swatch", width: 40, height: 10, "aria-hidden": "true" },
    svg("line", { x1: 1, y1: 5, x2: 39, y2: 5, stroke: color, "stroke-width": 2.5, "stroke-dasharray": dash.join(" ") || "none" }),
  );
}
