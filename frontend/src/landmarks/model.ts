/** Pairs of points, what was done to them, and what of it survives a reload. */

import type { PointPair } from "../api";
import type { Point } from "../viewer/pose";

export type Side = "he" | "ihc";

export interface Pair {
  he: Point | null;
  ihc: Point | null;
}

export interface Chosen {
  index: number;
  side: Side;
}

const MOST = 500; // steps that can be undone
const LARGEST = 2000; // pairs

export class Model {
  pairs: readonly Pair[] = [];
  chosen: Chosen | null = null;
  /** Called when pairs or the choice changed. */
  onChange: () => void = () => undefined;
  private past: (readonly Pair[])[] = [];
  private future: (readonly Pair[])[] = [];
  private held: readonly Pair[] | null = null;
  private saved = "[]";

  /** @param key under which the browser keeps unsaved pairs */
  constructor(private readonly key: string) {
    this.pairs = restore(key);
  }

  /** Pairs with both points, as the server takes them. */
  get complete(): PointPair[] {
    return this.pairs.flatMap(({ he, ihc }): PointPair[] => (he && ihc ? [[he.x, he.y, ihc.x, ihc.y]] : []));
  }

  /** Which side the next point belongs to; null: either. */
  get expected(): Side | null {
    const open = this.open;
    if (open < 0) return null;
    return this.pairs[open]?.he === null ? "he" : "ihc";
  }

  get canUndo(): boolean {
    return this.past.length > 0;
  }

  get canRedo(): boolean {
    return this.future.length > 0;
  }

  /** Whether there is something that no file holds. */
  get unsaved(): boolean {
    return JSON.stringify(this.pairs) !== this.saved;
  }

  /** A point: the partner of one that waits for it, that one anew, or the first of a new pair. */
  place(side: Side, at: Point): void {
    const open = this.open;
    const index = open >= 0 ? open : this.pairs.length;
    const pair = this.pairs[index] ?? { he: null, ihc: null };
    this.chosen = { index, side };
    this.set([...this.pairs.slice(0, index), { ...pair, [side]: at }, ...this.pairs.slice(index + 1)]);
  }

  choose(chosen: Chosen | null): void {
    this.chosen = chosen;
    this.onChange();
  }

  /** Choose the next (1) or previous (-1) point, all of a pair before the next pair. */
  step(by: 1 | -1): void {
    const all = this.pairs.flatMap((pair, index): Chosen[] =>
      (["he", "ihc"] as const).filter((side) => pair[side] !== null).map((side) => ({ index, side })),
    );
    if (all.length === 0) return;
    const at = all.findIndex(({ index, side }) => index === this.chosen?.index && side === this.chosen.side);
    this.choose(all[(at < 0 && by < 0 ? all.length - 1 : at + by + all.length) % all.length] ?? null);
  }

  /** Put the chosen point elsewhere; between `hold` and `release` all is one step. */
  move(at: Point): void {
    const { chosen } = this;
    const pair = chosen && this.pairs[chosen.index];
    if (!chosen || !pair) return;
    const pairs = this.pairs.map((one, index) => (index === chosen.index ? { ...one, [chosen.side]: at } : one));
    if (this.held === null) this.set(pairs);
    else {
      this.pairs = pairs;
      this.onChange();
    }
  }

  hold(): void {
    this.held = this.pairs;
  }

  release(): void {
    const before = this.held;
    this.held = null;
    if (before === null || before === this.pairs) return;
    const after = this.pairs;
    this.pairs = before;
    this.set(after);
  }

  /** Take the chosen pair away, or the one at `index`. */
  remove(index = this.chosen?.index): void {
    if (index === undefined || this.pairs[index] === undefined) return;
    this.chosen = null;
    this.set(this.pairs.filter((_, at) => at !== index));
  }

  replace(pairs: PointPair[]): void {
    this.chosen = null;
    this.set(pairs.slice(0, LARGEST).map(([hx, hy, ix, iy]) => ({ he: { x: hx, y: hy }, ihc: { x: ix, y: iy } })));
  }

  undo(): void {
    this.travel(this.past, this.future);
  }

  redo(): void {
    this.travel(this.future, this.past);
  }

  /** What there is now lies in a file. */
  keep(): void {
    this.saved = JSON.stringify(this.pairs);
    this.onChange();
  }

  /** The CSV that `restain register --landmarks` takes. */
  csv(): string {
    const rows = this.complete.map((row) => row.map((value) => Number(value.toFixed(3))).join(","));
    return ["x_he,y_he,x_ihc,y_ihc", ...rows, ""].join("\n");
  }

  private get open(): number {
    return this.pairs.findIndex(({ he, ihc }) => he === null || ihc === null);
  }

  private set(pairs: readonly Pair[]): void {
    this.past = [...this.past.slice(1 - MOST), this.pairs];
    this.future = [];
    this.pairs = pairs;
    this.store();
  }

  private travel(from: (readonly Pair[])[], to: (readonly Pair[])[]): void {
    const pairs = from.pop();
    if (pairs === undefined) return;
    to.push(this.pairs);
    this.pairs = pairs;
    if (this.chosen !== null && !this.pairs[this.chosen.index]?.[this.chosen.side]) this.chosen = null;
    this.store();
  }

  private store(): void {
    try {
      localStorage.setItem(this.key, JSON.stringify(this.pairs));
    } catch {
      // private windows keep nothing; the page still works
    }
    this.onChange();
  }
}

function restore(key: string): Pair[] {
  try {
    const stored: unknown = JSON.parse(localStorage.getItem(key) ?? "[]");
    if (!Array.isArray(stored)) return [];
    return stored.slice(0, LARGEST).flatMap((pair: unknown): Pair[] => {
      if (typeof pair !== "object" || pair === null) return [];
      const [he, ihc] = [pointOf(Reflect.get(pair, "he")), pointOf(Reflect.get(pair, "ihc"))];
      return he || ihc ? [{ he, ihc }] : [];
    });
  } catch {
    return [];
  }
}

function pointOf(value: unknown): Point | null {
  if (typeof value !== "object" || value === null) return null;
  const [x, y]: unknown[] = [Reflect.get(value, "x"), Reflect.get(value, "y")];
  return typeof x === "number" && typeof y === "number" && Number.isFinite(x + y) ? { x, y } : null;
}
