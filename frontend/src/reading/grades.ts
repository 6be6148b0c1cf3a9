/** What readers are told: the grades, the keys. */

import type { Study } from "../api";
import { h } from "../dom";

/** ASCO/CAP 2018 (doi 10.1200/JCO.2018.77.8738), affirmed in 2023, in our words; shares of invasive tumour cells. */
const MEANINGS: Record<string, string> = {
  "0": "No membrane staining, or faint incomplete staining in at most 10 % of the tumour cells.",
  "1+": "Faint, barely perceptible, incomplete membrane staining in more than 10 %.",
  "2+": "Weak to moderate complete membrane staining in more than 10 %, or intense complete staining in at most 10 %.",
  "3+": "Intense, complete membrane staining all around the cell in more than 10 %.",
};

/** What a grade means; null where the study has levels that are not HER2's. */
export function meaning(level: string, study: Study): string | null {
  return study.levels.every((one) => one in MEANINGS) ? (MEANINGS[level] ?? null) : null;
}

/** Keys of the levels: their digit (`2` for `2+`) where that tells them apart, else their place, from 0. */
export function levelKeys(levels: string[]): string[] {
  const digits = levels.map((level) => /^\d/.exec(level)?.[0] ?? "");
  return digits.every((digit) => digit !== "") && new Set(digits).size === levels.length
    ? digits
    : levels.map((_, place) => String(place));
}

/** What the page says of itself, on the first page and in the help. */
export function instructions(study: Study): HTMLElement {
  const keys = levelKeys(study.levels);
  const origin = study.asks_origin;
  return h(
    "div",
    { class: "told" },
    h(
      "p",
      {},
      "You see one image after the other. Grade each for itself, by what you see in it",
      origin ? ", and say whether it is a real stain or one that a computer generated." : ".",
    ),
    h("h3", {}, "Grades"),
    h(
      "dl",
      { class: "grades" },
      ...study.levels.flatMap((level) => [h("dt", {}, level), h("dd", {}, meaning(level, study) ?? "")]),
      h("dt", {}, "Not readable"),
      h("dd", {}, "No grade can be given: no tumour cells, out of focus, damaged."),
    ),
    meaning(study.levels[0] ?? "", study) === null
      ? null
      : h("p", { class: "small soft" }, "After ASCO/CAP 2018, affirmed in 2023; shares are of the invasive tumour cells."),
    h("h3", {}, "Keys"),
    h(
      "dl",
      { class: "keys" },
      ...row(keys, "grade " + study.levels.join(", ")),
      ...row(["u"], "not readable"),
      ...(origin ? row(["r", "g"], "real, generated") : []),
      ...row(["Enter"], "confirm, and go on to the next image"),
      ...row(["Backspace", "←"], "back to the image before; answers can be changed"),
      ...row(["→"], "forward again, over answered images"),
      ...row(["+", "−", "f"], "closer, farther, whole image (also the mouse wheel)"),
      ...row(["Shift + arrows"], "move the image (also by dragging)"),
      ...row(["?"], "this help"),
    ),
    h(
      "p",
      {},
      "Each answer is stored before the next image shows. You may stop at any time: log in again with the same code and go on where you were.",
    ),
    h("p", {}, h("strong", {}, "Research use only."), " No grade given here may be used for a patient's care."),
  );
}

function row(keys: string[], meaning: string): HTMLElement[] {
  return [h("dt", {}, ...keys.map((key) => h("kbd", {}, key))), h("dd", {}, meaning)];
}
