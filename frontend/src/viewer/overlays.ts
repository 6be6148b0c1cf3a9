/** What can be drawn on top of the slides: the panel that switches it, and the tiles. */

import type OpenSeadragon from "openseadragon";
import { get, type Layer, type Overlay } from "../api";
import { h, prose, put } from "../dom";
import type { Pane } from "./pane";
import type { Scene, Spec } from "./scene";
import { digits } from "./scalebar";

/** In the order of the keys 1 to 8. */
export const KINDS = ["tissue", "dab", "membranes", "nuclei", "density", "attention", "grid", "patches"];
const OPACITY = 70; // percent
const FEWEST = 0.35; // screen px a pixel of the coarsest level, as in a pane

interface Entry {
  /** `kind`, or `kind.2` where a layer has several. */
  name: string;
  index: number;
  overlay: Overlay;
  on: boolean;
  opacity: number;
  box: HTMLInputElement;
  slider: HTMLInputElement;
  far: HTMLElement;
  /** Said while tiles are missing: some take seconds at first. */
  busy: HTMLElement;
  /** Shown only while it is on. */
  more: HTMLElement;
}

interface Drawn {
  entry: Entry;
  spec: Spec;
  item: OpenSeadragon.TiledImage | null;
}

export class Overlays {
  readonly element = h("aside", { class: "panel overlays", "aria-label": "Overlays", "data-testid": "overlays" });
  /** Whether it is known what there is. */
  loaded = false;
  private entries: Entry[] = [];
  private panes: [Pane, Spec][] = [];
  /** Path of the transform between the slides. */
  private registration: string | null = null;
  private readonly drawn = new Map<Pane, Drawn[]>();

  /** @param changed told when something was switched */
  constructor(private readonly changed: () => void) {}

  /** Forget all: other layers are to be shown, which must not get these layers' overlays. */
  clear(): void {
    this.loaded = false;
    this.entries = [];
    this.panes = [];
    this.drawn.clear();
    put(this.element, h("h2", {}, "Overlays"));
  }

  /** Ask what there is for each layer, and switch on what a link says. */
  async load(scene: Scene, on: string[], signal: AbortSignal): Promise<void> {
    const registration = scene.registration?.path ?? null;
    const found = await Promise.all(
      scene.layers.map(async (layer): Promise<Overlay[] | Error> => {
        if (layer.slide === null) return [];
        try {
          const role = layer.frame ?? (layer.role === "virtual" ? null : layer.role);
          const offers = await get<Overlay[]>("/api/overlays", { path: layer.path, role, registration }, signal);
          return offers.filter(({ kind }) => layer.role !== "he" || kind !== "dab"); // there is none in an H&E
        } catch (error) {
          return error instanceof Error ? error : new Error(String(error));
        }
      }),
    );
    if (signal.aborted) return;
    this.loaded = true;
    this.entries = [];
    this.registration = registration;
    const sections = found.map((overlays, index) => this.section(scene.layers[index] as Layer, index, overlays));
    for (const word of on) this.switch(word);
    put(this.element, h("h2", {}, "Overlays"), ...sections);
    this.attach(this.panes);
  }

  /** Draw what is on in these panes; earlier ones are forgotten. */
  attach(panes: [Pane, Spec][]): void {
    this.panes = panes;
    this.drawn.clear();
    const shown = new Set(panes.map(([, spec]) => String(spec.index)));
    for (const section of this.element.querySelectorAll<HTMLElement>("section")) {
      section.hidden = !shown.has(section.dataset["index"] ?? "");
    }
    for (const [pane, spec] of panes) {
      this.drawn.set(pane, []);
      for (const entry of this.entries) if (entry.index === spec.index && entry.on) this.add(pane, spec, entry);
    }
  }

  /** Switch a kind (the first of it of each layer) on in all panes that have it, or off where it is on in all. */
  toggle(kind: string): void {
    const shown = new Set(this.panes.map(([, spec]) => spec.index));
    const entries = this.entries.filter((entry) => entry.name === kind && shown.has(entry.index));
    const on = !entries.every((entry) => entry.on);
    for (const entry of entries) this.set(entry, on);
  }

  /** What is on, for a link. */
  words(): string[] {
    const words = new Set<string>();
    for (const entry of this.entries.filter(({ on }) => on)) {
      const same = this.entries.filter(({ name }) => name === entry.name);
      const all = same.every(({ on, opacity }) => on && opacity === entry.opacity);
      const percent = entry.opacity === OPACITY ? "" : `@${entry.opacity}`;
      words.add(`${all ? "" : `${entry.index}:`}${entry.name}${percent}`);
    }
    return [...words];
  }

  /** After each drawing of a pane: an overlay that would need thousands of tiles waits until one zooms in. */
  limit(pane: Pane): void {
    const { scale } = pane.pose();
    for (const { entry, spec, item } of this.drawn.get(pane) ?? []) {
      const coarsest = entry.overlay.coarsest_z;
      const far = coarsest !== null && coarsest < spec.grid.max_z && scale * 2 ** coarsest < FEWEST;
      const opacity = far ? 0 : entry.opacity / 100;
      if (item !== null && item.getOpacity() !== opacity) item.setOpacity(opacity);
      entry.busy.classList.toggle("on", !far && item?.getFullyLoaded() === false);
      if (entry.far.hidden !== far) continue;
      entry.far.hidden = !far;
      const nearest = spec.mpp === null || coarsest === null ? null : (spec.mpp * 2 ** coarsest) / FEWEST;
      entry.far.textContent = nearest === null ? "Zoom in to see it." : `Zoom in to ${digits(nearest)} um/px to see it.`;
    }
  }

  private section(layer: Layer, index: number, overlays: Overlay[] | Error): HTMLElement {
    const title = h("h3", {}, h("span", { class: `role ${layer.role}` }, layer.label));
    if (overlays instanceof Error) return h("section", { "data-index": index }, title, h("p", { class: "muted small" }, overlays.message));
    if (overlays.length === 0) return h("section", { "data-index": index }, title, h("p", { class: "muted small" }, "Nothing to show."));
    const counts = new Map<string, number>();
    const rows = overlays.map((overlay) => {
      const count = (counts.get(overlay.kind) ?? 0) + 1;
      counts.set(overlay.kind, count);
      return this.row(count > 1 ? `${overlay.kind}.${count}` : overlay.kind, index, overlay, layer);
    });
    return h("section", { "data-index": index }, title, ...rows);
  }

  private row(name: string, index: number, overlay: Overlay, layer: Layer): HTMLElement {
    const id = `overlay-${index}-${name}`;
    const entry: Entry = {
      name,
      index,
      overlay,
      on: false,
      opacity: OPACITY,
      box: h("input", { type: "checkbox", id, disabled: overlay.stamp === "", "data-testid": id, onchange: () => this.set(entry, entry.box.checked) }),
      slider: h("input", { type: "range", min: 10, max: 100, step: 5, "aria-label": `Opacity of ${overlay.label}, ${layer.label}` }),
      far: h("p", { class: "far small", hidden: true, role: "status" }),
      busy: h("span", { class: "busy", role: "img", "aria-label": "is being drawn", title: "is being drawn", "data-testid": `busy-${index}-${name}` }),
      more: h("div", { class: "more", hidden: true }),
    };
    this.entries.push(entry);
    entry.slider.value = String(OPACITY);
    entry.slider.addEventListener("input", () => {
      entry.opacity = Number(entry.slider.value);
      for (const [pane] of this.panes) this.limit(pane);
      this.changed();
    });
    put(
      entry.more,
      h("ul", { class: "legend" }, ...overlay.legend.map(({ label, color }) => h("li", {}, swatch(color), label))),
      overlay.note !== "" && h("p", { class: "muted small" }, ...prose(overlay.note)),
      entry.far,
      h("label", { class: "opacity small" }, "Opacity ", entry.slider),
    );
    const key = KINDS.indexOf(overlay.kind) + 1;
    const label = h("label", { for: id, title: overlay.source ?? "" }, overlay.label);
    const head = h("div", { class: "row" }, entry.box, label, entry.busy, key > 0 && name === overlay.kind && h("kbd", {}, key));
    const broken = overlay.stamp === "" && h("p", { class: "far small" }, ...prose(overlay.note));
    return h("div", { class: "overlay" }, head, broken, entry.more);
  }

  /** A word of a link: `kind`, `layer:kind`, `@percent` behind it. */
  private switch(word: string): void {
    const [place = "", percent] = word.split("@");
    const [first = "", second] = place.split(":");
    const opacity = Math.min(Math.max(Math.round(Number(percent)) || OPACITY, 10), 100);
    for (const entry of this.entries) {
      if (entry.box.disabled || entry.name !== (second ?? first) || (second !== undefined && entry.index !== Number(first))) continue;
      entry.on = entry.box.checked = true;
      entry.more.hidden = false;
      entry.opacity = opacity;
      entry.slider.value = String(opacity);
    }
  }

  private set(entry: Entry, on: boolean): void {
    if (entry.box.disabled) return;
    entry.box.checked = on;
    if (entry.on === on) return;
    entry.on = on;
    entry.more.hidden = !on;
    entry.busy.classList.remove("on");
    for (const [pane, spec] of this.panes) {
      if (spec.index !== entry.index) continue;
      if (on) this.add(pane, spec, entry);
      else this.remove(pane, entry);
    }
    this.changed();
  }

  private add(pane: Pane, spec: Spec, entry: Entry): void {
    const { overlay } = entry;
    const drawn: Drawn = { entry, spec, item: null };
    this.drawn.get(pane)?.push(drawn);
    const role = spec.layer.frame ?? (spec.layer.role === "virtual" ? null : spec.layer.role);
    const query = {
      path: spec.layer.path,
      v: spec.stamp,
      via: spec.via,
      source: overlay.source,
      registration: this.registration,
      role,
      s: overlay.stamp,
    };
    const coarsest = Math.min(overlay.coarsest_z ?? spec.grid.max_z, spec.grid.max_z);
    void pane.overlay(`/api/overlay/${overlay.kind}`, query, coarsest).then((item) => {
      drawn.item = item;
      item.addHandler("fully-loaded-change", () => this.limit(pane));
      if (this.drawn.get(pane)?.includes(drawn)) this.limit(pane);
      else pane.viewer.world.removeItem(item); // switched off meanwhile
    });
  }

  private remove(pane: Pane, entry: Entry): void {
    const drawn = this.drawn.get(pane) ?? [];
    for (const one of drawn.filter((candidate) => candidate.entry === entry)) {
      if (one.item !== null) pane.viewer.world.removeItem(one.item);
    }
    this.drawn.set(
      pane,
      drawn.filter((one) => one.entry !== entry),
    );
  }
}

function swatch(color: string): HTMLElement {
  const box = h("span", { class: "swatch", "aria-hidden": "true" });
  box.style.background = /^#[0-9a-f]{6}$/i.test(color) ? color : "transparent";
  return box;
}
