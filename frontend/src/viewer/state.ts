/** What a link to the viewer says: the slides, where one looks, how, and what is drawn on top. */

import type { Frame } from "../api";
import { link } from "../dom";
import { upright } from "./pose";

export type Mode = "side" | "curtain";

export interface View {
  /** Middle, level-0 px of the frame (the IHC where there is a registration, else the first slide). */
  x: number;
  y: number;
  /** um a screen px; level-0 px a screen px where um/px is unknown. */
  z: number;
  rotation: number;
  flip: boolean;
}

export interface State {
  he: string | null;
  ihc: string | null;
  virtual: string[];
  registration: string | null;
  mode: Mode;
  view: View | null;
  /** Views of panes that are not locked to the first, by their place in the list. */
  own: Map<number, View>;
  /** Where the curtain hangs, 0 to 1 from the left. */
  split: number;
  /** Which layers the curtain shows to its left and right. */
  left: number | null;
  right: number | null;
  /** Overlays: `kind`, `layer:kind`, each perhaps with `@opacity` in percent. */
  on: string[];
  /** Frames that the user chose, by path of the layer. */
  frames: Map<string, Frame>;
  locked: boolean;
}

export function readState(query: URLSearchParams): State {
  const words = (name: string): string[] => query.getAll(name).filter((word) => word !== "");
  const number = (name: string): number | null => finite(query.get(name));
  const [x, y, z] = [number("x"), number("y"), number("z")];
  const seen = x !== null && y !== null && z !== null && z > 0;
  const view = seen ? { x, y, z, rotation: number("turn") ?? 0, flip: query.get("flip") === "1" } : null;
  const own = new Map<number, View>();
  for (const word of words("own")) {
    const [index, ...rest] = word.split(",");
    const [ox, oy, oz, turn, flip] = rest.map(Number);
    if (ox === undefined || oy === undefined || oz === undefined || !Number.isFinite(ox + oy + oz) || oz <= 0) continue;
    own.set(Number(index), { x: ox, y: oy, z: oz, rotation: turn || 0, flip: flip === 1 });
  }
  const frames = new Map<string, Frame>();
  for (const word of words("frame")) {
    const [frame, path] = [word.slice(0, word.indexOf(":")), word.slice(word.indexOf(":") + 1)];
    if (frame === "he" || frame === "ihc") frames.set(path, frame);
  }
  return {
    he: query.get("he") || null,
    ihc: query.get("ihc") || null,
    virtual: words("virtual"),
    registration: query.get("registration") || null,
    mode: query.get("mode") === "curtain" ? "curtain" : "side",
    view,
    own,
    split: Math.min(Math.max(number("split") ?? 0.5, 0), 1),
    left: number("left"),
    right: number("right"),
    on: (query.get("on") ?? "").split(",").filter((word) => word !== ""),
    frames,
    locked: query.get("lock") !== "0",
  };
}

/** The address of a state, `#/view?...`. */
export function writeState(state: State): string {
  const { view } = state;
  return link("view", {
    he: state.he,
    ihc: state.ihc,
    virtual: state.virtual,
    registration: state.registration,
    mode: state.mode,
    x: view && short(view.x, 2),
    y: view && short(view.y, 2),
    z: view && Number(view.z.toPrecision(7)),
    turn: view && (short(upright(view.rotation), 3) || null),
    flip: view?.flip ? 1 : null,
    own: [...state.own].map(([index, seen]) =>
      [index, short(seen.x, 2), short(seen.y, 2), seen.z.toPrecision(7), short(seen.rotation, 3), seen.flip ? 1 : 0].join(),
    ),
    split: state.mode === "curtain" ? short(state.split, 4) : null,
    left: state.mode === "curtain" ? state.left : null,
    right: state.mode === "curtain" ? state.right : null,
    on: state.on.join(",") || null,
    frame: [...state.frames].map(([path, frame]) => `${frame}:${path}`),
    lock: state.locked ? null : 0,
  });
}

function finite(text: string | null): number | null {
  if (text === null || text === "") return null;
  const value = Number(text);
  return Number.isFinite(value) ? value : null;
}

function short(value: number, places: number): number {
  return Number(value.toFixed(places));
}
