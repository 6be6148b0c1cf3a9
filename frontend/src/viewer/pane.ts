/** One layer in one OpenSeadragon viewer, with its scale bar, coordinates, cross and what is wrong with it. */

import OpenSeadragon from "openseadragon";
import type { Layer, Query } from "../api";
import { banner, h, put } from "../dom";
import { type Point, type Pose, toGrid, toScreen, whole } from "./pose";
import { digits, ScaleBar } from "./scalebar";
import { type Grid, type TileEvents, Tiles } from "./tiles";

export interface PaneOptions {
  layer: Layer;
  /** What is drawn: the slide's own pixels, or those of the IHC onto which it is warped. */
  grid: Grid;
  /** The registration through which it is drawn; null: as it is. */
  via: string | null;
  /** Of what is drawn. */
  stamp: string;
  /** um a grid px; null: unknown. */
  mpp: number | null;
  /** Where a grid px lies on the slide, level-0 px. */
  toSlide: (point: Point) => Point;
  /** It hangs over another pane, which takes the mouse and has the small picture of the whole. */
  above?: boolean;
  reload: () => void;
}

/**
 * Not WebGL: where it runs in software OpenSeadragon 6.1.1 drew tiles of another place into a turned slide, and it is
 * slower there. A canvas is drawn the same everywhere, and by the graphics card where there is one.
 */
const DRAWER = "canvas";
const USER_EVENTS = [
  "canvas-press",
  "canvas-scroll",
  "canvas-drag",
  "canvas-pinch",
  "navigator-click",
  "navigator-drag",
  "navigator-scroll",
] as const;
/** Below this many screen px a pixel of the coarsest level, tiles are not asked for: there would be very many. */
const FEWEST = 0.35;
const CLOSEST = 16; // screen px a grid px

export class Pane {
  readonly element: HTMLElement;
  readonly viewer: OpenSeadragon.Viewer;
  /** Resolves when poses can be set. */
  readonly ready: Promise<void>;
  /** Called on every change of the view, before it is drawn. */
  onMove: () => void = () => undefined;
  /** Called when the user begins to move this pane. */
  onUser: () => void = () => undefined;
  /** Called after every drawing. */
  onDraw: () => void = () => undefined;
  readonly scaleBar = new ScaleBar();
  private readonly cross = h("div", { class: "cross", hidden: true, "aria-hidden": "true", "data-testid": "cross" });
  private readonly coordinates = h("div", { class: "coordinates", "data-testid": "coordinates", hidden: true });
  private readonly notes = h("div", { class: "notes" });
  private readonly coarse = h("div", { class: "coarse", hidden: true, role: "status" });
  private readonly damaged = new Map<string, string>();
  private readonly failed = new Map<string, string>();
  private gone: string | null = null;
  private adding = 0;
  private crossAt: Point | null = null;

  /** @param host gets the pane as its last child; in the document, as the viewer measures itself */
  constructor(
    host: HTMLElement,
    readonly options: PaneOptions,
  ) {
    const { layer, grid, via } = options;
    const canvas = h("div", { class: "osd" });
    this.element = h(
      "div",
      { class: options.above ? "stage above" : "stage", "data-testid": `stage-${layer.role}` },
      canvas,
      this.cross,
      this.coarse,
      this.notes,
      this.scaleBar.element,
      this.coordinates,
    );
    this.coordinates.dataset["label"] = layer.label;
    host.append(this.element);
    const query = { path: layer.path, v: options.stamp, via };
    this.viewer = OpenSeadragon({
      element: canvas,
      tileSources: [
        // a slide without small copies of itself stays hidden until it is known that few of its tiles are needed
        { tileSource: new Tiles(grid, "/api/tile", query, this.events()), opacity: grid.coarsest_z < grid.max_z ? 0 : 1 },
      ] as never, // which the types leave out
      drawer: DRAWER,
      showNavigationControl: false,
      showSequenceControl: false,
      showNavigator: !options.above,
      navigatorPosition: "TOP_RIGHT",
      navigatorSizeRatio: 0.16,
      navigatorMaintainSizeRatio: true,
      navigatorAutoFade: false,
      navigatorBackground: "#16191b",
      navigatorBorderColor: "#8a949c",
      navigatorDisplayRegionColor: "#e0a060",
      navigatorOpacity: 1,
      navigatorDrawer: DRAWER,
      gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true, flickEnabled: true },
      gestureSettingsPen: { clickToZoom: false },
      animationTime: matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 0.35,
      preserveImageSizeOnResize: true,
      visibilityRatio: 0.15,
      minZoomImageRatio: 0.25,
      maxZoomPixelRatio: CLOSEST,
      imageLoaderLimit: 24, // the browser asks for six at a time; overlays wait without holding up the slide
      maxImageCacheCount: 250,
      maxTilesPerFrame: 4,
      timeout: 600_000, // tiles wait for a server that is away
      crossOriginPolicy: false,
    });
    // Each tile is drawn a px larger, against seams; where tiles lie on whole px there are none, and it would only blur.
    (this.viewer.drawer as unknown as { minimumOverlapRequired: () => boolean }).minimumOverlapRequired = () => !this.exact;
    this.viewer.setKeyboardNavEnabled(false); // the page has keys of its own
    const surface = this.viewer.canvas;
    surface.setAttribute("role", "application");
    surface.setAttribute("aria-roledescription", "slide");
    surface.setAttribute("aria-label", `${layer.label}: arrow keys move, plus and minus zoom, question mark for help`);
    this.ready = new Promise((resolve) => this.viewer.addOnceHandler("open", () => resolve()));
    this.viewer.addHandler("viewport-change", () => {
      this.limit(this.pose());
      this.onMove();
    });
    this.viewer.addHandler("update-viewport", () => this.drawn());
    for (const event of USER_EVENTS) this.viewer.addHandler(event as "canvas-press", () => this.onUser());
    surface.addEventListener("focus", () => this.onUser());
  }

  /** Size in CSS px. */
  get size(): Point {
    return this.viewer.viewport.getContainerSize();
  }

  /** Whether nothing moves and all tiles are there (for tests). */
  get settled(): boolean {
    const { world } = this.viewer;
    const [now, then] = [this.pose(), this.pose(true)];
    const still = Math.hypot(now.x - then.x, now.y - then.y) * now.scale < 0.01 && Math.abs(now.scale / then.scale - 1) < 1e-6;
    const items = Array.from({ length: world.getItemCount() }, (_, index) => world.getItemAt(index));
    return still && this.adding === 0 && items.length > 0 && items.every((item) => item.getOpacity() === 0 || item.getFullyLoaded());
  }

  /** What is shown now, or, with `target`, where a movement will end. */
  pose(target = false): Pose {
    const { viewport } = this.viewer;
    const centre = viewport.getCenter(!target);
    const width = this.options.grid.width;
    return {
      x: centre.x * width,
      y: centre.y * width,
      scale: (viewport.getZoom(!target) * this.size.x) / width,
      rotation: viewport.getRotation(!target),
      flip: viewport.getFlip(),
    };
  }

  /** Show this; at once, or as a movement. */
  show(pose: Pose, smooth = false): void {
    const { viewport } = this.viewer;
    const width = this.options.grid.width;
    if (Math.abs(viewport.getRotation() - pose.rotation) > 1e-6) viewport.setRotation(pose.rotation, true);
    if (viewport.getFlip() !== pose.flip) viewport.setFlip(pose.flip);
    viewport.zoomTo((pose.scale * width) / this.size.x, undefined, !smooth);
    viewport.panTo(new OpenSeadragon.Point(pose.x / width, pose.y / width), !smooth);
    this.viewer.forceRedraw();
  }

  /** Show the whole grid. */
  fit(smooth = false): void {
    const { rotation, flip } = this.pose(true);
    this.show(whole(this.options.grid.width, this.options.grid.height, this.size, rotation, flip), smooth);
  }

  /** Move by a part of the pane, zoom by a factor. */
  steer(across: number, down: number, factor: number): void {
    const pose = this.pose(true);
    const size = this.size;
    const centre = toGrid(pose, size, { x: size.x * (0.5 + across), y: size.y * (0.5 + down) });
    this.show(this.sane({ ...pose, ...centre, scale: pose.scale * factor }), true);
  }

  /** The pose nearest to this one (of a link, that may say anything) from which the slide can be found. */
  sane(pose: Pose): Pose {
    const { width, height } = this.options.grid;
    const least = whole(width, height, this.size).scale / 4;
    const within = (value: number, low: number, high: number): number => Math.min(Math.max(value, low), high);
    const scale = within(pose.scale, least, CLOSEST);
    return { ...pose, x: within(pose.x, 0, width), y: within(pose.y, 0, height), scale };
  }

  /** One screen px for each grid px, on whole screen px: nothing is made up where the pane is not turned. */
  sharp(): void {
    const pose = this.pose(true);
    const { x, y } = this.size;
    const [across, down] = Math.round(pose.rotation / 90) % 2 === 0 ? [x, y] : [y, x];
    const whole = (place: number, side: number): number => Math.round(place - side / 2) + side / 2;
    this.show({ ...pose, x: whole(pose.x, across), y: whole(pose.y, down), scale: 1 }, true);
  }

  /** Whether each grid px covers whole px of the screen. */
  private get exact(): boolean {
    const pose = this.pose();
    const side = pose.scale * devicePixelRatio;
    const { x, y } = toScreen(pose, this.size, { x: 0, y: 0 });
    const whole = (value: number): boolean => Math.abs(value - Math.round(value)) < 1e-4;
    return side > 0.5 && pose.rotation % 90 === 0 && [side, x * devicePixelRatio, y * devicePixelRatio].every(whole);
  }

  toScreen(point: Point): Point {
    return toScreen(this.pose(), this.size, point);
  }

  toGrid(at: Point): Point {
    return toGrid(this.pose(), this.size, at);
  }

  /** Where a mouse event lies on the grid. */
  under(event: MouseEvent): Point {
    const box = this.element.getBoundingClientRect();
    return this.toGrid({ x: event.clientX - box.left, y: event.clientY - box.top });
  }

  /** Coordinates of a grid point of this pane, and, where it is another pane that the mouse is on, a cross there. */
  point(at: Point | null, cross: boolean): void {
    this.crossAt = cross ? at : null;
    this.coordinates.hidden = at === null;
    if (at !== null) {
      const place = this.options.toSlide(at);
      const mpp = this.options.layer.slide?.mpp ?? (this.options.via === null ? this.options.mpp : null);
      const px = `${Math.floor(place.x)}, ${Math.floor(place.y)} px`;
      const um = mpp === null ? "" : ` · ${(place.x * mpp).toFixed(1)}, ${(place.y * mpp).toFixed(1)} um`;
      this.coordinates.textContent = Number.isFinite(place.x + place.y) ? px + um : "not on this slide";
    }
    this.placeCross();
  }

  /** Draw something on top of the slide, invisible at first. */
  async overlay(part: string, query: Query, coarsest_z: number): Promise<OpenSeadragon.TiledImage> {
    this.adding++;
    await this.ready;
    const tileSource = new Tiles({ ...this.options.grid, coarsest_z }, part, query, this.events(), true);
    return new Promise((resolve) => {
      const success = (event: unknown): void => {
        this.adding--;
        resolve((event as { item: OpenSeadragon.TiledImage }).item);
      };
      this.viewer.addTiledImage({ tileSource, opacity: 0, success });
    });
  }

  private events(): TileEvents {
    return {
      vanished: (message) => {
        this.gone ??= message || "The slide is not there any more.";
        this.tell();
      },
      damaged: (key, message) => {
        this.damaged.set(key, message);
        this.tell();
      },
      failed: (key, message) => {
        this.failed.set(key, message);
        this.tell();
      },
    };
  }

  destroy(): void {
    this.onMove = this.onUser = this.onDraw = () => undefined;
    this.viewer.destroy();
    this.element.remove();
  }

  private drawn(): void {
    const pose = this.pose();
    this.scaleBar.show(pose.scale, this.options.mpp);
    this.placeCross();
    this.limit(pose);
    this.onDraw();
  }

  private placeCross(): void {
    const at = this.crossAt === null ? null : this.toScreen(this.crossAt);
    this.cross.hidden = at === null || !Number.isFinite(at.x + at.y);
    if (at !== null) this.cross.style.transform = `translate(${at.x}px, ${at.y}px)`;
  }

  /** A slide without a pyramid is drawn only where a pane does not need thousands of its tiles. */
  private limit(pose: Pose): void {
    const { grid, layer, mpp } = this.options;
    const far = grid.coarsest_z < grid.max_z && pose.scale * 2 ** grid.coarsest_z < FEWEST;
    const image = this.viewer.world.getItemAt(0);
    if (image !== undefined && image.getOpacity() !== (far ? 0 : 1)) image.setOpacity(far ? 0 : 1);
    if (this.coarse.hidden !== far) return;
    this.coarse.hidden = !far;
    const scale = FEWEST * 1.5 * 2 ** -grid.coarsest_z;
    const nearer = mpp === null ? "" : ` to ${digits(mpp / scale)} um/px`;
    put(
      this.coarse,
      h("p", {}, layer.slide?.problem ?? "This slide has no small copies of itself to draw from afar."),
      h("button", { onclick: () => this.zoomIn(scale) }, `Zoom in${nearer}`),
    );
  }

  private zoomIn(scale: number): void {
    this.onUser();
    this.show({ ...this.pose(true), scale }, true);
  }

  private tell(): void {
    const again = (): HTMLElement => h("button", { onclick: this.options.reload }, "Reload");
    const lines: HTMLElement[] = [];
    if (this.gone !== null) lines.push(banner("error", h("span", {}, this.gone), " ", again()));
    for (const [found, what] of [
      [this.damaged, "could not be read"],
      [this.failed, "did not arrive"],
    ] as const) {
      const [first] = found.values();
      if (first === undefined || this.gone !== null) continue;
      const count = h("strong", { "data-testid": "damaged" }, `${found.size} tile${found.size > 1 ? "s" : ""} ${what}.`);
      lines.push(banner("warning", count, " ", first, " ", again()));
    }
    put(this.notes, ...lines);
  }
}
