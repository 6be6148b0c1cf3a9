/** What the keys of the viewer do. */

import type { Keys } from "./help";
import { KINDS } from "./overlays";
import type { Mode } from "./state";

export interface Action {
  /** Parts of the pane to move by, and a factor to zoom by. */
  move?: [across: number, down: number, factor: number];
  fit?: boolean;
  /** One screen px a slide px. */
  sharp?: boolean;
  /** Degrees to turn all by. */
  turn?: number;
  curtain?: number;
  overlay?: string;
  mode?: Mode;
  lock?: boolean;
  help?: boolean;
}

const STEP = 0.12;
const FACTOR = 1.5;

const MOVES: Record<string, Action> = {
  ArrowLeft: { move: [-STEP, 0, 1] },
  ArrowRight: { move: [STEP, 0, 1] },
  ArrowUp: { move: [0, -STEP, 1] },
  ArrowDown: { move: [0, STEP, 1] },
  "+": { move: [0, 0, FACTOR] },
  "=": { move: [0, 0, FACTOR] },
  "-": { move: [0, 0, 1 / FACTOR] },
  "0": { fit: true },
  z: { sharp: true },
  "[": { curtain: -0.05 },
  "]": { curtain: 0.05 },
  r: { turn: 90 },
  R: { turn: -90 },
  c: { mode: "curtain" },
  s: { mode: "side" },
  l: { lock: true },
  g: { overlay: "grid" },
  "?": { help: true },
};

/** What a key does; null: nothing. */
export function keyOf(event: KeyboardEvent): Action | null {
  const kind = /^[1-8]$/.test(event.key) ? KINDS[Number(event.key) - 1] : undefined;
  return kind === undefined ? (MOVES[event.key] ?? null) : { overlay: kind };
}

export const KEYS: Keys = [
  [["←", "→", "↑", "↓"], "move"],
  [["+", "-"], "zoom in, out; the mouse wheel and a double click too"],
  [["0"], "show the whole slide"],
  [["z"], "one screen px for each px of the slide (100 %)"],
  [["s"], "side by side"],
  [["c"], "curtain"],
  [["[", "]"], "move the curtain; with its handle focused, also ← →, Home and End"],
  [["l"], "lock the panes together, or let each move by itself"],
  [["r", "R"], "turn by 90° to the right, to the left"],
  [["1", "…", "8"], `overlays: ${KINDS.join(", ")}`],
  [["g"], "registration grid"],
  [["?"], "this list"],
];
