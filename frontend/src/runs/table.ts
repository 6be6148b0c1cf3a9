/** The numbers of a run, kept up to date by what is new. */

import type { RunView } from "../api";

/** What curves are drawn over, the first that a table has. */
const ABSCISSAS = ["step", "epoch"];

export interface Curve {
  x: number[];
  y: (number | null)[];
}

/** The rows of one `metrics.csv`. */
export class Table {
  columns: string[] = [];
  private rows: (number | null)[][] = [];

  /** The last value that the server is to go on from; null: there are no rows, or nothing they are counted by. */
  get last(): number | null {
    const place = this.abscissa === null ? -1 : this.columns.indexOf(this.abscissa);
    return this.rows.at(-1)?.[place] ?? null;
  }

  get size(): number {
    return this.rows.length;
  }

  get abscissa(): string | null {
    return ABSCISSAS.find((name) => this.columns.includes(name)) ?? null;
  }

  /** Columns that can be drawn. */
  get curves(): string[] {
    return this.columns.filter((name) => !ABSCISSAS.includes(name));
  }

  /** Replace all rows. */
  fill(view: Pick<RunView, "columns" | "rows">): void {
    this.columns = view.columns;
    this.rows = view.rows.map((row) => row.map(number));
  }

  /** Rows that came after `last`; false where they do not fit: all must be asked for again. */
  append(view: Pick<RunView, "columns" | "rows">): boolean {
    if (view.columns.join("\n") !== this.columns.join("\n")) return view.rows.length === 0 && view.columns.length === 0;
    this.rows.push(...view.rows.map((row) => row.map(number)));
    return true;
  }

  /**
   * One column over `abscissa` (null: over the number of the row), in ascending order, one value each: the last one that
   * the table has, as where several steps fall into one epoch.
   */
  curve(name: string, abscissa: string | null): Curve {
    const from = abscissa === null ? -1 : this.columns.indexOf(abscissa);
    const place = this.columns.indexOf(name);
    const points = new Map<number, number | null>();
    this.rows.forEach((row, index) => {
      const x = from < 0 ? index + 1 : row[from];
      const y = row[place] ?? null;
      if (x !== null && x !== undefined && (y !== null || !points.has(x))) points.set(x, y);
    });
    const sorted = [...points].sort(([a], [b]) => a - b);
    return { x: sorted.map(([x]) => x), y: sorted.map(([, y]) => y) };
  }
}

function number(cell: number | string | null): number | null {
  const value = typeof cell === "string" && cell.trim() !== "" ? Number(cell) : cell;
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

/**
 * Exponential moving average without the pull towards its start (as in Adam: divided by 1 - weight^n).
 *
 * @param weight of what came before, 0 (as it is) to below 1
 */
export function smooth(values: (number | null)[], weight: number): (number | null)[] {
  let mean = 0;
  let count = 0;
  return values.map((value) => {
    if (value === null) return null;
    mean = weight * mean + (1 - weight) * value;
    count += 1;
    return mean / (1 - weight ** count);
  });
}
