/** The layers of a case and how their pixels relate: what each pane draws, and the maps between panes. */

import type { CaseView, Frame, Layer, Registration, SlideInfo } from "../api";
import { follow, type Place, type Point, type Pose } from "./pose";
import type { View } from "./state";
import type { Grid } from "./tiles";
import { Transform } from "./transform";

/** Pixels that a pane draws or a link speaks of. */
export interface Space {
  /** Of the layer; several panes may show it. */
  index: number;
  /** On whose pixels the grid lies; null: unknown, then it maps to nothing else. */
  frame: Frame | null;
  /** Frame px a grid px: slides stained at another um/px lie on the same tissue. */
  unit: number;
  mpp: number | null;
}

/** What a pane is to draw. */
export interface Spec extends Space {
  layer: Layer;
  slide: SlideInfo;
  grid: Grid;
  via: string | null;
  /** Of what is drawn, the slide and what it is warped by: tiles asked for with it are kept for good. */
  stamp: string;
  toSlide: Place;
}

export class Scene {
  readonly transform: Transform | null;
  readonly layers: Layer[];

  /**
   * @param view the server's answer
   * @param chosen frames that the user gave, by path
   */
  constructor(
    readonly view: CaseView,
    chosen: Map<string, Frame>,
  ) {
    this.transform = view.registration === null ? null : new Transform(view.registration);
    this.layers = view.layers.map((layer) => ({ ...layer, frame: chosen.get(layer.path) ?? frameOf(layer) }));
  }

  get registration(): Registration | null {
    return this.view.registration;
  }

  /** Each layer on its own pixels. */
  native(index: number): Spec | null {
    const layer = this.layers[index];
    if (layer?.slide == null) return null;
    const { slide, frame } = layer;
    const unit = frame === null ? 1 : (this.width(frame) ?? slide.size[0]) / slide.size[0];
    const framed = frame === null ? null : this.mpp(frame);
    const mpp = slide.mpp ?? (framed === null ? null : framed * unit);
    const [width, height] = slide.size;
    const grid = { width, height, tile: slide.tile, max_z: slide.max_z, coarsest_z: slide.coarsest_z };
    return { index, frame, unit, mpp, layer, slide, grid, via: null, stamp: slide.stamp, toSlide: (p) => p };
  }

  /** On whose pixels a curtain can hang; null: the layers have none in common. */
  get common(): Frame | null {
    const frames = this.layers.filter((layer) => layer.slide !== null).map((layer) => layer.frame);
    const [first] = frames;
    if (frames.length < 2 || first === undefined || frames.includes(null)) return null;
    if (frames.every((frame) => frame === first)) return first;
    return this.transform === null ? null : "ihc";
  }

  /** Whether any two layers can move together. */
  get related(): boolean {
    const specs = this.layers.map((_, index) => this.native(index)).filter((spec) => spec !== null);
    return specs.some((one, index) => specs.slice(index + 1).some((other) => this.between(one, other) !== null));
  }

  /** A layer on the pixels that all have in common. */
  shared(index: number): Spec | null {
    const native = this.native(index);
    const { registration, transform } = this;
    if (native === null || native.frame === null || native.frame === this.common) return native;
    if (registration === null || transform === null || this.common !== "ihc") return null;
    const [width, height] = registration.ihc_size;
    const { tile, coarsest_z, max_z } = native.slide;
    const top = Math.max(0, Math.ceil(Math.log2(Math.max(width, height) / tile)));
    return {
      ...native,
      frame: "ihc",
      unit: 1,
      mpp: this.mpp("ihc"),
      via: registration.path,
      stamp: !registration.stamp ? native.stamp : `${native.stamp}-${registration.stamp}`,
      grid: { width, height, tile, max_z: top, coarsest_z: coarsest_z < max_z ? Math.min(coarsest_z, top) : top },
      toSlide: (p) => scaled(transform.toHe(p), 1 / native.unit),
    };
  }

  /** The pixels that links speak of. */
  get reference(): Space {
    if (this.transform !== null) return { index: -1, frame: "ihc", unit: 1, mpp: this.mpp("ihc") };
    const index = this.layers.findIndex((layer) => layer.slide !== null);
    return this.native(index) ?? { index, frame: null, unit: 1, mpp: null };
  }

  /** The map between two grids; null: none is known. */
  between(from: Space, to: Space): Place | null {
    if (from.frame === to.frame && (from.frame !== null || from.index === to.index)) {
      const factor = from.unit / to.unit;
      return (p) => scaled(p, factor);
    }
    const { transform } = this;
    if (from.frame === null || to.frame === null || transform === null) return null;
    const turn = (p: Point): Point => (from.frame === "he" ? transform.toIhc(p) : transform.toHe(p));
    return (p) => scaled(turn(scaled(p, from.unit)), 1 / to.unit);
  }

  /** What a link says of a pose; null: the pane maps to nothing that links speak of. */
  viewOf(pose: Pose, space: Space): View | null {
    const { reference } = this;
    const map = this.between(space, reference);
    const seen = map === null ? null : follow(pose, map);
    return seen && { x: seen.x, y: seen.y, z: (reference.mpp ?? 1) / seen.scale, rotation: seen.rotation, flip: seen.flip };
  }

  /** The pose of a pane for what a link says. */
  poseOf(view: View, space: Space): Pose | null {
    const { reference } = this;
    const map = this.between(reference, space);
    return map && follow({ ...view, scale: (reference.mpp ?? 1) / view.z }, map);
  }

  private width(frame: Frame): number | null {
    const size = frame === "he" ? this.registration?.he_size : this.registration?.ihc_size;
    return size?.[0] ?? this.holder(frame)?.size[0] ?? null;
  }

  private mpp(frame: Frame): number | null {
    const known = frame === "he" ? this.registration?.he_mpp : this.registration?.ihc_mpp;
    return known ?? this.holder(frame)?.mpp ?? null;
  }

  /** The slide whose pixels a frame is: the stained one itself, else the first that lies on it. */
  private holder(frame: Frame): SlideInfo | null {
    const layers = this.layers.filter((layer) => layer.slide !== null);
    return (layers.find((layer) => layer.role === frame) ?? layers.find((layer) => layer.frame === frame))?.slide ?? null;
  }
}

function frameOf(layer: Layer): Frame | null {
  return layer.role === "virtual" ? layer.frame : layer.role;
}

function scaled(p: Point, factor: number): Point {
  return { x: p.x * factor, y: p.y * factor };
}
