/** What the keys of the landmark picker do. */

import type { Keys } from "../viewer/help";
import type { Side } from "./model";

export interface Action {
  /** Steps of a pixel: 1, with Shift 10. */
  arrow?: [across: number, down: number];
  zoom?: number;
  place?: boolean;
  focus?: Side;
  step?: 1 | -1;
  does?: "undo" | "redo" | "remove" | "release" | "fit" | "sharp" | "lock" | "save" | "help";
}

const ARROWS: Record<string, [number, number]> = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const PLAIN: Record<string, Action> = {
  "+": { zoom: 1.5 },
  "=": { zoom: 1.5 },
  "-": { zoom: 1 / 1.5 },
  Enter: { place: true },
  " ": { place: true },
  h: { focus: "he" },
  i: { focus: "ihc" },
  n: { step: 1 },
  N: { step: -1 },
  Delete: { does: "remove" },
  Backspace: { does: "remove" },
  Escape: { does: "release" },
  "0": { does: "fit" },
  z: { does: "sharp" },
  l: { does: "lock" },
  "?": { does: "help" },
};

/** What a key does; null: nothing. */
export function keyOf(event: KeyboardEvent): Action | null {
  if (event.ctrlKey || event.metaKey) {
    const key = event.key.toLowerCase();
    if (key === "z") return { does: event.shiftKey ? "redo" : "undo" };
    if (key === "y") return { does: "redo" };
    return key === "s" ? { does: "save" } : null;
  }
  const arrow = ARROWS[event.key];
  if (arrow === undefined) return PLAIN[event.key] ?? null;
  const factor = event.shiftKey ? 10 : 1;
  return { arrow: [arrow[0] * factor, arrow[1] * factor] };
}

export const KEYS: Keys = [
  [["click"], "place a point; then its partner on the other slide"],
  [["h", "i"], "work on the H&E, on the IHC"],
  [["Enter"], "place a point at the cross in the middle of the slide one works on"],
  [["←", "→", "↑", "↓"], "move the slide; where a point is chosen, the point, by a pixel (with Shift by 10)"],
  [["n", "N"], "choose the next, the previous point"],
  [["Esc"], "choose none"],
  [["Delete"], "take the chosen pair away"],
  [["Ctrl-Z", "Ctrl-Shift-Z"], "undo, redo"],
  [["+", "-", "0", "z"], "zoom in, out, show the whole slide, one screen px for each of its px"],
  [["l"], "lock both panes through the pairs"],
  [["Ctrl-S"], "save"],
  [["?"], "this list"],
];
