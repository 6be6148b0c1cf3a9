/** The registration: where each place of the IHC lies on the H&E, and back. As `restain.registration.transform`. */

import type { Field, Registration } from "../api";
import type { Point } from "./pose";

const CLOSE = 2e-4; // px of the IHC
const PLAIN_STEPS = 60;
const DAMPED_STEPS = 400;

/** (dx, dy) node by node, IHC px. */
type Nodes = Omit<Field, "data"> & { values: Float32Array };

export class Transform {
  private readonly matrix: number[];
  private readonly inverse: number[];
  private readonly field: Nodes | null;

  /** @throws Error the answer is damaged: a matrix without inverse, a field of another size than it says */
  constructor(readonly registration: Registration) {
    this.matrix = registration.matrix.flat();
    this.inverse = invert(this.matrix);
    this.field = registration.field === null ? null : read(registration.field);
  }

  /** T(p) = P(p + u(p)): an IHC point on the H&E, px. */
  toHe(p: Point): Point {
    return project(this.matrix, this.displaced(p));
  }

  /** An H&E point on the IHC, px; NaN where the displacement folds so that none is found. */
  toIhc(p: Point): Point {
    const target = project(this.inverse, p);
    if (this.field === null || !Number.isFinite(target.x + target.y)) return target;
    let { x, y } = target;
    for (let step = 0; step < PLAIN_STEPS + DAMPED_STEPS; step++) {
      const there = this.displaced({ x, y });
      const dx = target.x - there.x;
      const dy = target.y - there.y;
      // stretched by more than a factor of 2, plain steps overshoot; shorter ones still arrive
      const part = step < PLAIN_STEPS ? 1 : 0.2;
      x += part * dx;
      y += part * dy;
      if (Math.max(Math.abs(dx), Math.abs(dy)) < CLOSE) return { x, y };
    }
    return { x: NaN, y: NaN };
  }

  private displaced(p: Point): Point {
    const field = this.field;
    if (field === null) return p;
    const [column, t] = cell((p.x - field.origin[0]) / field.spacing[0], field.columns);
    const [row, s] = cell((p.y - field.origin[1]) / field.spacing[1], field.rows);
    const at = (r: number, c: number, axis: number): number => field.values[2 * (r * field.columns + c) + axis] ?? 0;
    const along = (axis: number): number => {
      const upper = at(row, column, axis) * (1 - t) + at(row, column + 1, axis) * t;
      const lower = at(row + 1, column, axis) * (1 - t) + at(row + 1, column + 1, axis) * t;
      return upper * (1 - s) + lower * s;
    };
    return { x: p.x + along(0), y: p.y + along(1) };
  }
}

/** The cell of a place (in units of nodes) and how far it lies in it, 0 to 1; clamped to the grid. */
function cell(place: number, nodes: number): [number, number] {
  const inside = Math.min(Math.max(Number.isNaN(place) ? 0 : place, 0), nodes - 1);
  const low = Math.min(Math.floor(inside), nodes - 2);
  return [low, inside - low];
}

/** A point through a 3 x 3 homography given row by row. */
export function project(m: number[], p: Point): Point {
  const [a = 1, b = 0, c = 0, d = 0, e = 1, f = 0, g = 0, h = 0, i = 1] = m;
  const depth = g * p.x + h * p.y + i;
  return { x: (a * p.x + b * p.y + c) / depth, y: (d * p.x + e * p.y + f) / depth };
}

/** The inverse of a 3 x 3 matrix given row by row. */
export function invert(m: number[]): number[] {
  const [a = NaN, b = NaN, c = NaN, d = NaN, e = NaN, f = NaN, g = NaN, h = NaN, i = NaN] = m;
  const [A, B, C] = [e * i - f * h, c * h - b * i, b * f - c * e];
  const determinant = a * A + d * B + g * C;
  if (m.length !== 9 || !Number.isFinite(determinant) || determinant === 0) {
    throw new Error("The registration's matrix has no inverse. Register the slides again.");
  }
  const rest = [f * g - d * i, a * i - c * g, c * d - a * f, d * h - e * g, b * g - a * h, a * e - b * d];
  return [A, B, C, ...rest].map((value) => value / determinant);
}

function read(field: NonNullable<Registration["field"]>): Nodes {
  const bytes = Uint8Array.from(atob(field.data), (letter) => letter.charCodeAt(0));
  const count = field.columns * field.rows * 2;
  if (bytes.length !== count * 4 || field.columns < 2 || field.rows < 2) {
    throw new Error("The registration's displacement is damaged. Register the slides again.");
  }
  const view = new DataView(bytes.buffer);
  const values = Float32Array.from({ length: count }, (_, index) => view.getFloat32(4 * index, true));
  return { columns: field.columns, rows: field.rows, origin: field.origin, spacing: field.spacing, values };
}
