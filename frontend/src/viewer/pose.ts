/**
 * How a pane looks at its grid of pixels, and the same look through a map to another grid.
 *
 * On the screen lies grid point p at `middle + F R s (p - centre)`: scaled by s, turned clockwise by R, then mirrored
 * left to right by F. OpenSeadragon draws the same way.
 */

export interface Point {
  x: number;
  y: number;
}

export interface Pose {
  /** The grid point in the middle of the pane, px. */
  x: number;
  y: number;
  /** Screen px a grid px. */
  scale: number;
  /** Degrees, clockwise. */
  rotation: number;
  flip: boolean;
}

export type Place = (point: Point) => Point;

const RADIAN = Math.PI / 180;

/** Where grid point `p` lies, in CSS px from the top left of a pane of `size`. */
export function toScreen(pose: Pose, size: Point, p: Point): Point {
  const cos = Math.cos(pose.rotation * RADIAN) * pose.scale;
  const sin = Math.sin(pose.rotation * RADIAN) * pose.scale;
  const dx = p.x - pose.x;
  const dy = p.y - pose.y;
  const across = cos * dx - sin * dy;
  return { x: size.x / 2 + (pose.flip ? -across : across), y: size.y / 2 + sin * dx + cos * dy };
}

/** The grid point at a place of the pane; the inverse of `toScreen`. */
export function toGrid(pose: Pose, size: Point, at: Point): Point {
  const cos = Math.cos(pose.rotation * RADIAN) / pose.scale;
  const sin = Math.sin(pose.rotation * RADIAN) / pose.scale;
  const across = pose.flip ? size.x / 2 - at.x : at.x - size.x / 2;
  const down = at.y - size.y / 2;
  return { x: pose.x + cos * across + sin * down, y: pose.y - sin * across + cos * down };
}

/**
 * The pose on another grid that shows the same place at the same size and turn: exact in the middle, and by the
 * similarity nearest to the map around it.
 *
 * @param pose on the first grid
 * @param map from the first grid to the other
 * @param reach screen px over which the map's scale and turn are measured
 * @returns null where the map leads nowhere
 */
export function follow(pose: Pose, map: Place, reach = 64): Pose | null {
  const centre = map(pose);
  const step = Math.max(reach / pose.scale, 2);
  const right = map({ x: pose.x + step, y: pose.y });
  const left = map({ x: pose.x - step, y: pose.y });
  const lower = map({ x: pose.x, y: pose.y + step });
  const upper = map({ x: pose.x, y: pose.y - step });
  const [a, b] = [(right.x - left.x) / (2 * step), (lower.x - upper.x) / (2 * step)];
  const [c, d] = [(right.y - left.y) / (2 * step), (lower.y - upper.y) / (2 * step)];
  const mirrored = a * d - b * c < 0;
  const cos = mirrored ? (a - d) / 2 : (a + d) / 2;
  const sin = mirrored ? (c + b) / 2 : (c - b) / 2;
  const size = Math.hypot(cos, sin);
  if (!Number.isFinite(centre.x + centre.y) || !(size > 1e-9) || !Number.isFinite(size)) return null;
  const turn = Math.atan2(sin, cos) / RADIAN;
  return {
    x: centre.x,
    y: centre.y,
    scale: pose.scale / size,
    // a mirrored map is k R(turn) diag(1, -1), and R diag(1, -1) = diag(1, -1) R^-1
    rotation: upright(mirrored ? 180 - pose.rotation - turn : pose.rotation - turn),
    flip: pose.flip !== mirrored,
  };
}

/** An angle in (-180, 180]. */
export function upright(degrees: number): number {
  const turned = ((degrees % 360) + 360) % 360;
  return turned > 180 ? turned - 360 : turned;
}

/** The pose that shows all of a grid of `width` x `height` in a pane of `size`. */
export function whole(width: number, height: number, size: Point, rotation = 0, flip = false): Pose {
  const cos = Math.abs(Math.cos(rotation * RADIAN));
  const sin = Math.abs(Math.sin(rotation * RADIAN));
  const scale = Math.min(size.x / (width * cos + height * sin), size.y / (width * sin + height * cos)) * 0.96;
  return { x: width / 2, y: height / 2, scale: scale > 0 ? scale : 1, rotation, flip };
}
