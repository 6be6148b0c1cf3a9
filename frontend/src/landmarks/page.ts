/** The landmark picker: the same places on an H&E and an IHC, clicked in pairs. */

import "../viewer/viewer.css";
import "../viewer/panels.css";
import "./landmarks.css";
import { ApiError, type CaseView, caseView, type Fit, type Layer, post, wordsOf } from "../api";
import { banner, fileName, h, put, typing } from "../dom";
import type { Leave, Route } from "../page";
import { connection } from "../viewer/connection";
import { help } from "../viewer/help";
import { keyOf as look } from "../viewer/keys";
import { Lock } from "../viewer/lock";
import { Pane } from "../viewer/pane";
import { type Place, type Point, upright } from "../viewer/pose";
import { digits } from "../viewer/scalebar";
import { Scene } from "../viewer/scene";
import { invert, project } from "../viewer/transform";
import { choose } from "./choose";
import { download, load, read, save } from "./dialogs";
import { KEYS, keyOf } from "./keys";
import { Markers } from "./markers";
import { Model, type Side } from "./model";
import { preview, type Shown } from "./preview";
import { type Fitted, PairTable, placeIn } from "./table";

const DEBOUNCE = 250; // ms
const NAMES: Record<Side, string> = { he: "H&E", ihc: "IHC" };
const SIDES: Side[] = ["he", "ihc"];

export async function open(root: HTMLElement, route: Route): Promise<Leave | void> {
  const [he, ihc] = [route.query.get("he"), route.query.get("ihc")];
  if (!he || !ihc) return choose(root, he, ihc);
  const page = new LandmarksPage(root, he, ihc);
  await page.load(route.query.get("csv"));
  return () => page.close();
}

class LandmarksPage {
  readonly model: Model;
  private readonly panes = new Map<Side, Pane>();
  private readonly markers: Markers[] = [];
  private readonly table: PairTable;
  private lock: Lock | null = null;
  private view: CaseView | null = null;
  private fitted: Fitted | null = null;
  private refused: string | null = null;
  private fitting = new AbortController();
  /** The pairs that the fit is of. */
  private measured = "[]";
  private timer = 0;
  private previewed: Shown | null = null;
  private readonly bar = h("div", { class: "toolbar", role: "group", "aria-label": "Landmarks" });
  private readonly says = h("p", { class: "says", role: "status", "data-testid": "says" });
  private readonly notices = h("div", { class: "notices" });
  private readonly side = h("div", { class: "side" });
  private readonly curtain = h("div", { class: "preview", hidden: true, "data-testid": "preview" });
  private readonly work: HTMLElement;
  private readonly stops: (() => void)[];

  constructor(
    root: HTMLElement,
    private readonly he: string,
    private readonly ihc: string,
  ) {
    this.model = new Model(`restain.landmarks:${he}\n${ihc}`);
    this.table = new PairTable(this.model, { look: (index) => this.look(index) });
    const away = banner("error", "The server does not answer. Your points are kept in this browser. Trying again…");
    away.hidden = true;
    this.work = h("div", { class: "work" }, this.bar, this.says, h("div", { class: "viewer" }, this.side, this.table.element));
    root.append(h("h1", { class: "visually-hidden" }, "Landmark picker"), away, this.notices, this.work, this.curtain);
    const key = (event: KeyboardEvent): void => this.key(event);
    document.addEventListener("keydown", key);
    const unwatch = connection.watch((gone) => (away.hidden = !gone));
    this.stops = [() => document.removeEventListener("keydown", key), unwatch];
    this.model.onChange = () => this.changed();
  }

  close(): void {
    for (const stop of this.stops) stop();
    clearTimeout(this.timer);
    this.fitting.abort();
    this.previewed?.close();
    for (const pane of this.panes.values()) pane.destroy();
  }

  /** Open the two slides; `csv` takes the place of what the browser kept. */
  async load(csv: string | null): Promise<void> {
    for (const pane of this.panes.values()) pane.destroy();
    this.panes.clear();
    this.markers.length = 0;
    put(this.side, h("p", { class: "empty", role: "status" }, "Opening the slides…"));
    try {
      this.view = await caseView({ he: this.he, ihc: this.ihc });
      if (csv !== null) await this.take(csv);
    } catch (error) {
      if (error instanceof ApiError && error.status === 0) connection.lost();
      const again = h("button", { onclick: () => void this.load(csv) }, "Try again");
      put(this.side, h("div", { class: "empty" }, banner("error", wordsOf(error)), again));
      return;
    }
    this.build(this.view);
    this.changed();
    window.restain = { model: this.model, panes: this.panes, page: this };
  }

  private async take(csv: string): Promise<void> {
    const kept = this.model.pairs.length > 0;
    await read(this.model, csv);
    if (kept) put(this.notices, banner("info", "Points from an earlier visit were replaced by those of the file; undo brings them back."));
  }

  private build(view: CaseView): void {
    const scene = new Scene({ ...view, registration: null }, new Map());
    const sections = SIDES.map((side) => {
      const index = scene.layers.findIndex((layer) => layer.role === side);
      const spec = scene.native(index);
      const head = this.head(side, scene.layers[index], spec?.mpp ?? null);
      const section = h("section", { class: "pane", "aria-label": NAMES[side], "data-testid": `pane-${side}` }, head);
      if (spec === null) section.append(this.broken(scene.layers[index]));
      return { side, spec, section };
    });
    put(this.side, ...sections.map(({ section }) => section));
    for (const { side, spec, section } of sections) {
      if (spec === null) continue;
      const options = { ...spec, reload: () => void this.load(null) };
      const pane = new Pane(section, options);
      pane.viewer.addHandler("canvas-double-click", (event) => (event.preventDefaultAction = true)); // two points
      const markers = new Markers(pane, side, this.model, NAMES[side]);
      pane.viewer.addHandler("canvas-click", (event) => {
        if (!event.quick) return;
        const box = pane.element.getBoundingClientRect();
        const from = event.originalEvent as MouseEvent;
        this.place(side, pane.toGrid({ x: from.clientX - box.left, y: from.clientY - box.top }));
      });
      pane.onDraw = () => markers.place();
      this.panes.set(side, pane);
      this.markers.push(markers);
    }
    if (this.panes.size < 2) return;
    const panes = [...this.panes.values()];
    const lock = new Lock(panes, (from, to) => this.between(from, to));
    lock.on = false;
    this.lock = lock;
    void Promise.all(panes.map((pane) => pane.ready)).then(() => {
      for (const pane of panes) pane.fit();
    });
  }

  private head(side: Side, layer: Layer | undefined, mpp: number | null): HTMLElement {
    const turn = (name: string, sign: string, change: (pane: Pane) => void): HTMLElement =>
      h(
        "button",
        {
          class: "quiet close",
          "aria-label": `${name}: ${NAMES[side]}`,
          title: name,
          onclick: () => {
            const pane = this.panes.get(side);
            if (pane === undefined) return;
            pane.onUser();
            change(pane);
          },
        },
        sign,
      );
    const by = (degrees: number) => (pane: Pane) => {
      const pose = pane.pose(true);
      pane.show({ ...pose, rotation: upright(pose.rotation + (pose.flip ? -degrees : degrees)) });
    };
    return h(
      "div",
      { class: "pane-head" },
      h("span", { class: `role ${side}` }, NAMES[side]),
      h("span", { class: "name", title: layer?.path ?? "" }, layer?.slide?.name ?? fileName(layer?.path ?? "")),
      h("span", { class: "mpp small" }, mpp === null ? "um/px unknown" : `${digits(mpp)} um/px`),
      turn("Turn left", "⟲", by(-90)),
      turn("Turn right", "⟳", by(90)),
      turn("Mirror", "⇋", (pane) => pane.show({ ...pane.pose(true), flip: !pane.pose().flip })),
    );
  }

  private broken(layer: Layer | undefined): HTMLElement {
    const again = h("button", { onclick: () => void this.load(null) }, "Reload");
    const message = banner("error", layer?.error ?? "This slide cannot be read.", " ", again);
    return h("div", { class: "stage broken" }, h("div", { class: "notes" }, message));
  }

  private place(side: Side, at: Point): void {
    const size = this.panes.get(side)?.options.grid;
    if (size === undefined || at.x < 0 || at.y < 0 || at.x > size.width || at.y > size.height) return;
    this.model.place(side, at);
  }

  /** The pairs or the choice changed. */
  private changed(): void {
    this.draw();
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => void this.measure(), DEBOUNCE);
  }

  private draw(): void {
    const { fitted } = this;
    const out = this.model.pairs.flatMap((pair, index) => (fitted?.fit.used[placeIn(fitted, pair)] === false ? [index] : []));
    for (const markers of this.markers) markers.draw(new Set(out));
    this.table.draw(fitted, JSON.stringify(this.model.complete) !== this.measured, this.refused);
    this.tools();
    this.speak();
  }

  private async measure(): Promise<void> {
    const points = this.model.complete;
    const asked = JSON.stringify(points);
    if (asked === this.measured) return;
    this.fitting.abort();
    const { signal } = (this.fitting = new AbortController());
    let fitted: Fitted | null = null;
    let refused: string | null = null;
    try {
      if (points.length >= 4) fitted = { fit: await post<Fit>("/api/landmarks/fit", { he: this.he, ihc: this.ihc, points }, signal), points };
    } catch (error) {
      if (error instanceof ApiError && error.status === 0) connection.lost();
      refused = wordsOf(error);
    }
    if (signal.aborted) return;
    [this.fitted, this.refused] = [fitted, refused];
    this.measured = refused === null ? asked : "";
    if (this.matrix === null && this.lock?.on) this.lock.on = false;
    this.draw();
    this.lock?.align();
  }

  /** From the IHC to the H&E, by the pairs. */
  private get matrix(): number[] | null {
    return this.fitted?.fit.matrix?.flat() ?? null;
  }

  private between(from: Pane, to: Pane): Place | null {
    const { matrix } = this;
    if (matrix === null || from === to) return null;
    const map = from === this.panes.get("ihc") ? matrix : invert(matrix);
    return (point) => project(map, point);
  }

  /** Bring a pair into the middle of both panes, and choose its point on the side one works on. */
  private look(index: number): void {
    const pair = this.model.pairs[index];
    if (pair === undefined) return;
    const leader = SIDES.find((side) => this.panes.get(side) === this.lock?.leader) ?? "he";
    this.model.choose({ index, side: pair[leader] === null ? (leader === "he" ? "ihc" : "he") : leader });
    for (const [side, pane] of this.panes) {
      const at = pair[side];
      if (at === null || (this.lock?.on && side !== leader)) continue;
      pane.show({ ...pane.pose(true), ...at });
    }
  }

  private speak(): void {
    const { expected, pairs, chosen } = this.model;
    const next = pairs.length + (expected === null ? 1 : 0);
    const open = expected === null ? `Pair ${next}: click a place on either slide` : `Now click the same place on the ${NAMES[expected]} (pair ${next})`;
    const held = chosen === null ? "" : ` · Point ${chosen.index + 1} on the ${NAMES[chosen.side]} is chosen: drag it, arrow keys move it by a pixel, Delete takes the pair away.`;
    put(this.says, h("strong", {}, `${open}.`), held);
    for (const [side, pane] of this.panes) pane.element.classList.toggle("expected", expected === side);
  }

  private tools(): void {
    const { model } = this;
    const enough = model.complete.length >= 4;
    const tool = (name: string, act: () => void, on: boolean, id: string, title = ""): HTMLElement =>
      h("button", { onclick: act, disabled: !on, "data-testid": id, title }, name);
    const focused = document.activeElement instanceof HTMLElement ? document.activeElement.dataset["testid"] : undefined;
    put(
      this.bar,
      tool("Undo", () => model.undo(), model.canUndo, "undo", "Ctrl-Z"),
      tool("Redo", () => model.redo(), model.canRedo, "redo", "Ctrl-Shift-Z"),
      tool("Delete pair", () => model.remove(), model.chosen !== null, "delete", "Delete"),
      h(
        "button",
        { "aria-pressed": String(this.lock?.on ?? false), disabled: this.matrix === null, onclick: () => this.toggleLock(), "data-testid": "lock", title: "Both panes move together through the pairs (l)" },
        "Lock panes",
      ),
      tool("Preview", () => void this.preview(), enough, "preview-button", "The H&E moved onto the IHC by these pairs"),
      h("span", { class: "grow" }),
      model.unsaved && model.pairs.length > 0 && h("span", { class: "badge warn" }, "not saved"),
      tool("Load…", () => load(model), true, "load"),
      tool("Download CSV", () => download(model, this.name), model.complete.length > 0, "download"),
      h("button", { class: "primary", disabled: model.complete.length === 0, onclick: () => this.save(), "data-testid": "save" }, "Save…"),
      h("button", { onclick: () => help("Keys of the landmark picker", KEYS), "aria-label": "Help: keys", title: "Keys (?)" }, "?"),
    );
    if (focused !== undefined) this.bar.querySelector<HTMLElement>(`[data-testid="${focused}"]`)?.focus();
  }

  private get name(): string {
    const name = this.view?.patient ?? fileName(this.he).replace(/\.(ome\.tiff?|\w+)$/i, "");
    return name.replace(/[^A-Za-z0-9\-_. ]+/g, "_").replace(/^[. ]+/, "").slice(0, 80) || "landmarks";
  }

  private save(): void {
    save(this.model, { he: this.he, ihc: this.ihc }, this.name);
  }

  private toggleLock(): void {
    if (this.lock === null || this.matrix === null) return;
    this.lock.on = !this.lock.on;
    this.lock.align();
    this.tools();
  }

  private async preview(): Promise<void> {
    if (this.view === null) return;
    try {
      this.work.hidden = true;
      this.previewed = await preview(this.curtain, this.view, this.model.complete, () => {
        this.previewed = null;
        this.work.hidden = false;
      });
      window.restain = { ...window.restain, preview: this.previewed.stage };
      put(this.notices);
    } catch (error) {
      this.work.hidden = false;
      put(this.notices, banner("error", wordsOf(error)));
    }
  }

  private key(event: KeyboardEvent): void {
    if (typing(event) || event.altKey || document.querySelector("dialog[open]")) return;
    if (this.work.hidden && this.previewed === null) return; // the preview is on its way
    if (this.previewed !== null) {
      const looked = look(event);
      if (event.key === "Escape") this.previewed.close();
      else if (looked === null || !this.previewed.stage.act(looked)) return;
      event.preventDefault();
      return;
    }
    const action = keyOf(event);
    const { model, lock } = this;
    const leader = lock?.leader;
    if (action === null || lock === null || leader === undefined) return;
    const side = SIDES.find((one) => this.panes.get(one) === leader) ?? "he";
    const onButton = event.target instanceof HTMLButtonElement;
    if (action.arrow && model.chosen !== null) this.nudge(action.arrow);
    else if (action.arrow) leader.steer(action.arrow[0] * 0.012, action.arrow[1] * 0.012, 1);
    else if (action.zoom) leader.steer(0, 0, action.zoom);
    else if (action.place && !onButton) this.place(side, leader.pose(true));
    else if (action.focus) this.panes.get(action.focus)?.viewer.canvas.focus();
    else if (action.step) this.step(action.step);
    else if (action.does === "undo") model.undo();
    else if (action.does === "redo") model.redo();
    else if (action.does === "remove") model.remove();
    else if (action.does === "release") model.choose(null);
    else if (action.does === "fit") leader.fit(true);
    else if (action.does === "sharp") leader.sharp();
    else if (action.does === "lock") this.toggleLock();
    else if (action.does === "save" && model.complete.length > 0) this.save();
    else if (action.does === "help") help("Keys of the landmark picker", KEYS);
    else return;
    event.preventDefault();
  }

  private step(by: 1 | -1): void {
    this.model.step(by);
    const { chosen } = this.model;
    const at = chosen && this.model.pairs[chosen.index]?.[chosen.side];
    const pane = chosen && this.panes.get(chosen.side);
    if (!at || !pane) return;
    pane.viewer.canvas.focus({ preventScroll: true });
    pane.show({ ...pane.pose(true), ...at });
  }

  /** Move the chosen point by level-0 px along the screen's axes. */
  private nudge([across, down]: [number, number]): void {
    const { chosen } = this.model;
    const pane = chosen && this.panes.get(chosen.side);
    const at = chosen && this.model.pairs[chosen.index]?.[chosen.side];
    if (!pane || !at) return;
    const { scale } = pane.pose();
    const screen = pane.toScreen(at);
    const { width, height } = pane.options.grid;
    const to = pane.toGrid({ x: screen.x + across * scale, y: screen.y + down * scale });
    this.model.move({ x: Math.min(Math.max(to.x, 0), width), y: Math.min(Math.max(to.y, 0), height) });
  }
}
