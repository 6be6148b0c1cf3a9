/** The panes of a case as they are laid out now, locked together. */

import type { Frame } from "../api";
import { banner, fileName, h, put } from "../dom";
import { Curtain } from "./curtain";
import type { Action } from "./keys";
import { Lock } from "./lock";
import { Pane } from "./pane";
import { upright } from "./pose";
import type { Scene, Spec } from "./scene";
import { digits } from "./scalebar";
import type { State } from "./state";

export interface StageEvents {
  change(): void;
  drawn(pane: Pane): void;
  reload(): void;
  /** Other layers, or others of the same, are to be shown. */
  rebuild(): void;
  remove(index: number): void;
}

export class Stage {
  readonly element: HTMLElement;
  readonly drawn: [Pane, Spec][] = [];
  /** Resolves when all panes show what the state says. */
  ready: Promise<void> = Promise.resolve();
  private locks: Lock | null = null;
  private curtain: Curtain | null = null;
  private readonly turns = new Map<Pane, HTMLElement>();
  private placed = false;
  private over = false;

  /** @param host is emptied and filled; in the document, as viewers measure themselves when they are made */
  constructor(
    host: HTMLElement,
    readonly scene: Scene,
    private readonly state: State,
    private readonly events: StageEvents,
  ) {
    this.element = h("div", { class: state.mode === "curtain" ? "curtain" : "side", "data-testid": state.mode });
    put(host, this.element);
    if (state.mode === "curtain") this.hang();
    else this.side();
    this.start();
  }

  /** Show what the state says. */
  private start(): void {
    const panes = this.drawn.map(([pane]) => pane);
    if (panes.length === 0) return;
    const specs = new Map(this.drawn);
    const between = (from: Pane, to: Pane) => this.scene.between(specs.get(from) as Spec, specs.get(to) as Spec);
    const lock = new Lock(panes, between);
    lock.on = this.state.locked || this.state.mode === "curtain";
    this.locks = lock;
    this.ready = Promise.all(panes.map((pane) => pane.ready)).then(() => {
      if (this.over) return;
      this.place(lock);
      this.placed = true;
      lock.onChange = () => this.moved(lock);
      this.moved(lock);
    });
  }

  /** Whether all panes show what they are to show (for tests). */
  get settled(): boolean {
    return this.placed && this.drawn.every(([pane]) => pane.settled);
  }

  /** Keep where one looks in the state. */
  remember(): void {
    const lock = this.locks;
    const main = this.main();
    if (lock === null || main === null || !this.placed) return;
    const [pane, spec] = main;
    this.state.view = this.scene.viewOf(pane.pose(true), spec) ?? this.state.view;
    this.state.own.clear();
    for (const [other, its] of this.drawn) {
      if (other === pane || (lock.on && this.scene.between(spec, its) !== null)) continue;
      const { x, y, scale, rotation, flip } = other.pose(true);
      this.state.own.set(its.index, { x, y, z: 1 / scale, rotation, flip });
    }
  }

  fit(): void {
    this.locks?.leader.fit(true);
  }

  sharp(): void {
    this.locks?.leader.sharp();
  }

  lock(on: boolean): void {
    if (this.locks === null || this.state.mode === "curtain") return;
    this.locks.on = on;
    this.locks.align();
  }

  /** Do what a key says; false: it is nothing for panes. */
  act(action: Action): boolean {
    const lock = this.locks;
    if (lock === null) return false;
    if (action.move) lock.leader.steer(...action.move);
    else if (action.fit) this.fit();
    else if (action.sharp) this.sharp();
    else if (action.curtain !== undefined) this.curtain?.by(action.curtain);
    else if (action.turn !== undefined) {
      const pose = lock.leader.pose(true);
      lock.leader.show({ ...pose, rotation: upright(pose.rotation + (pose.flip ? -action.turn : action.turn)) });
    } else return false;
    return true;
  }

  destroy(): void {
    this.over = true;
    for (const [pane] of this.drawn) pane.destroy();
    this.element.remove();
  }

  /** The pane that links speak of. */
  private main(): [Pane, Spec] | null {
    const { reference } = this.scene;
    return (
      this.drawn.find(([, spec]) => spec.frame !== null && spec.frame === reference.frame) ??
      this.drawn.find(([, spec]) => this.scene.between(spec, reference) !== null) ??
      this.drawn[0] ??
      null
    );
  }

  private place(lock: Lock): void {
    const main = this.main();
    if (main === null) return;
    const [pane, spec] = main;
    lock.leader = pane;
    const pose = this.state.view && this.scene.poseOf(this.state.view, spec);
    if (pose === null) pane.fit();
    else pane.show(pane.sane(pose));
    for (const [other, its] of this.drawn) {
      const own = this.state.own.get(its.index);
      if (other === pane || (lock.on && this.scene.between(spec, its) !== null)) continue;
      if (own === undefined) other.fit();
      else other.show(other.sane({ ...own, scale: 1 / own.z }));
    }
    lock.align();
  }

  private moved(lock: Lock): void {
    for (const [pane, note] of this.turns) {
      const { rotation, flip } = pane.pose();
      const words = [Math.abs(rotation) >= 0.05 && `turned ${upright(rotation).toFixed(1)}°`, flip && "mirrored"];
      note.textContent = words.filter(Boolean).join(", ");
      note.title = note.textContent;
      note.hidden = note.textContent === "";
      pane.element.classList.toggle("leads", lock.panes.length > 1 && pane === lock.leader);
    }
    this.events.change();
  }

  private pane(host: HTMLElement, spec: Spec, above = false): Pane {
    const pane = new Pane(host, {
      layer: spec.layer,
      grid: spec.grid,
      via: spec.via,
      stamp: spec.stamp,
      mpp: spec.mpp,
      toSlide: spec.toSlide,
      above,
      reload: this.events.reload,
    });
    pane.onDraw = () => this.events.drawn(pane);
    this.drawn.push([pane, spec]);
    return pane;
  }

  private side(): void {
    const sections = this.scene.layers.map((layer, index) => {
      const spec = this.scene.native(index);
      const head = this.head(index, spec);
      const section = h("section", { class: "pane", "aria-label": layer.label, "data-testid": `pane-${index}` }, head);
      if (spec === null) section.append(this.broken(layer.error));
      return { spec, head, section };
    });
    this.element.dataset["count"] = String(sections.length);
    this.element.append(...sections.map(({ section }) => section)); // all, before any viewer measures itself
    for (const { spec, head, section } of sections) {
      if (spec === null) continue;
      const note = h("span", { class: "turn small", hidden: true });
      head.insertBefore(note, head.lastChild);
      this.turns.set(this.pane(section, spec), note);
    }
  }

  private head(index: number, spec: Spec | null): HTMLElement {
    const layer = this.scene.layers[index];
    if (layer === undefined) throw new Error("no such layer");
    const known = spec === null ? "" : spec.mpp === null ? "um/px unknown" : `${digits(spec.mpp)} um/px`;
    const frame = this.scene.view.layers[index]?.frame ?? null;
    return h(
      "div",
      { class: "pane-head" },
      h("span", { class: `role ${layer.role}` }, layer.label),
      h("span", { class: "name", title: layer.path }, layer.slide?.name ?? fileName(layer.path)),
      h("span", { class: "mpp small" }, known),
      layer.role === "virtual" && frame === null && spec !== null && this.frame(layer.path),
      h("button", { class: "quiet close", "aria-label": `Close ${layer.label}`, onclick: () => this.events.remove(index) }, "×"),
    );
  }

  /** On whose pixels a virtual slide lies, where restain could not tell. */
  private frame(path: string): HTMLElement {
    const list = h(
      "select",
      { class: "small", "aria-label": "On whose pixels does it lie?" },
      h("option", { value: "" }, "lies on: ?"),
      h("option", { value: "he" }, "lies on the H&E"),
      h("option", { value: "ihc" }, "lies on the IHC"),
    );
    list.value = this.state.frames.get(path) ?? "";
    list.addEventListener("change", () => {
      if (list.value === "") this.state.frames.delete(path);
      else this.state.frames.set(path, list.value as Frame);
      this.events.reload();
    });
    return list;
  }

  private hang(): void {
    const specs = this.scene.layers.map((_, index) => this.scene.shared(index)).filter((spec) => spec !== null);
    const at = (index: number | null, other: Spec | undefined): Spec | undefined =>
      specs.find((spec) => spec.index === index && spec !== other) ?? specs.find((spec) => spec !== other);
    const left = at(this.state.left, undefined);
    const right = at(this.state.right, left);
    if (left === undefined || right === undefined) {
      this.element.append(this.broken("A curtain needs two slides that can be read."));
      return;
    }
    [this.state.left, this.state.right] = [left.index, right.index];
    this.pane(this.element, right); // first: then both are drawn in the same frame
    const above = this.pane(this.element, left, true);
    const names: [string, string] = [left.layer.label, right.layer.label];
    this.curtain = new Curtain(this.element, above, this.state.split, names, (split) => {
      this.state.split = split;
      this.events.change();
    });
    this.element.append(this.label("left", left, specs), this.label("right", right, specs));
  }

  /** What hangs on one side; a list where there is a choice. */
  private label(side: "left" | "right", shown: Spec, specs: Spec[]): HTMLElement {
    const chip = h("div", { class: `chip ${side}` });
    if (specs.length < 3) {
      put(chip, h("span", { class: `role ${shown.layer.role}` }, shown.layer.label));
      return chip;
    }
    const options = specs.map(({ index, layer }) => h("option", { value: index, selected: index === shown.index }, layer.label));
    const list = h("select", { "aria-label": `Layer on the ${side}`, "data-testid": `curtain-${side}` }, ...options);
    list.addEventListener("change", () => {
      const [other, index] = [side === "left" ? "right" : "left", Number(list.value)] as const;
      if (this.state[other] === index) this.state[other] = this.state[side]; // they change places
      this.state[side] = index;
      this.remember();
      this.events.rebuild();
    });
    put(chip, list);
    return chip;
  }

  private broken(error: string | null): HTMLElement {
    const again = h("button", { onclick: () => this.events.reload() }, "Reload");
    return h("div", { class: "stage broken" }, h("div", { class: "notes" }, banner("error", error ?? "This slide cannot be read.", " ", again)));
  }
}
