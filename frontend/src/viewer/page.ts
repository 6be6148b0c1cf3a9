/** The viewer: the slides of a patient side by side or as a curtain, locked through the registration. */

import "./viewer.css";
import "./panels.css";
import { ApiError, caseView, wordsOf } from "../api";
import { banner, copyText, h, link, put, typing } from "../dom";
import type { Leave, Route } from "../page";
import { connection } from "./connection";
import { help } from "./help";
import { keyOf, KEYS } from "./keys";
import { Overlays } from "./overlays";
import { Picker, type Slides } from "./picker";
import { Scene } from "./scene";
import { Stage } from "./stage";
import { type Mode, readState, type State, writeState } from "./state";

/** Below this width the list of slides lies over the panes (viewer.css). */
const FLOATS = 1200;

export function open(root: HTMLElement, route: Route): Leave {
  const page = new ViewerPage(root, readState(route.query));
  void page.load();
  return () => page.close();
}

class ViewerPage {
  private scene: Scene | null = null;
  private stage: Stage | null = null;
  private loading = new AbortController();
  private written = 0;
  private readonly overlays = new Overlays(() => this.write());
  private readonly picker: Picker;
  private readonly bar = h("div", { class: "toolbar", role: "group", "aria-label": "Viewer" });
  private readonly notices = h("div", { class: "notices" });
  private readonly middle = h("div", { class: "middle" });
  private readonly said = h("span", { class: "small muted", role: "status" });
  private readonly stops: (() => void)[];

  constructor(
    root: HTMLElement,
    private readonly state: State,
  ) {
    this.picker = new Picker(
      () => this.state,
      (slides) => this.choose(slides),
    );
    const away = banner("error", "The server does not answer. Is ", h("code", {}, "restain serve"), " still running? Trying again…");
    away.hidden = true;
    away.dataset["testid"] = "server-gone";
    root.append(
      h("h1", { class: "visually-hidden" }, "Slide viewer"),
      this.bar,
      away,
      this.notices,
      h("div", { class: "viewer" }, this.picker.element, this.middle, this.overlays.element),
    );
    const key = (event: KeyboardEvent): void => this.key(event);
    document.addEventListener("keydown", key);
    const unwatch = connection.watch((gone) => (away.hidden = !gone));
    this.stops = [() => document.removeEventListener("keydown", key), unwatch];
    this.picker.element.hidden = this.any();
    this.overlays.element.hidden = innerWidth < 900;
    void this.picker.load();
  }

  close(): void {
    this.loading.abort();
    clearTimeout(this.written);
    for (const stop of this.stops) stop();
    this.stage?.destroy();
  }

  /** Ask for the case and show it. */
  async load(): Promise<void> {
    this.loading.abort();
    const { signal } = (this.loading = new AbortController());
    this.stage?.destroy();
    this.stage = this.scene = null;
    this.overlays.clear();
    this.tools();
    this.overlays.element.classList.toggle("idle", !this.any());
    if (!this.any()) {
      put(this.notices);
      put(this.middle, h("div", { class: "empty" }, h("p", {}, "Choose a case or a slide on the left.")));
      return;
    }
    put(this.middle, h("p", { class: "empty", role: "status" }, "Opening the slides…"));
    const { he, ihc, virtual, registration } = this.state;
    try {
      const view = await caseView({ he, ihc, virtual, registration });
      if (signal.aborted) return;
      this.scene = new Scene(view, this.state.frames);
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof ApiError && error.status === 0) connection.lost();
      const again = h("button", { onclick: () => void this.load() }, "Try again");
      put(this.middle, h("div", { class: "empty" }, banner("error", wordsOf(error)), again));
      return;
    }
    this.build();
    await this.overlays.load(this.scene, this.state.on, signal);
    this.write();
  }

  /** Lay the panes out anew, at the same place. */
  private build(): void {
    if (this.scene === null) return;
    this.stage?.destroy();
    if (this.state.mode === "curtain" && this.scene.common === null) this.state.mode = "side";
    this.stage = new Stage(this.middle, this.scene, this.state, {
      change: () => this.write(),
      drawn: (pane) => this.overlays.limit(pane),
      reload: () => {
        this.remember();
        void this.load();
      },
      rebuild: () => this.build(),
      remove: (index) => this.remove(index),
    });
    this.overlays.attach(this.stage.drawn);
    this.tools();
    this.notice();
    this.picker.draw();
    const { stage, scene, state, overlays } = this;
    const settled = (): boolean => overlays.loaded && stage.settled;
    document.title = `${scene.view.patient ?? "Viewer"} · restain`;
    window.restain = { stage, scene, state, settled };
  }

  private any(): boolean {
    return this.state.he !== null || this.state.ihc !== null || this.state.virtual.length > 0;
  }

  private choose(slides: Slides): void {
    const other = slides.he !== this.state.he || slides.ihc !== this.state.ihc;
    Object.assign(this.state, slides);
    if (other) this.state.view = null;
    this.state.own.clear();
    this.state.left = this.state.right = null;
    if (innerWidth <= FLOATS) this.picker.element.hidden = true;
    history.replaceState(null, "", writeState(this.state));
    void this.load();
  }

  private remove(index: number): void {
    const layer = this.scene?.layers[index];
    if (layer === undefined) return;
    const { he, ihc, virtual, registration } = this.state;
    this.choose({
      he: layer.role === "he" ? null : he,
      ihc: layer.role === "ihc" ? null : ihc,
      virtual: layer.role === "virtual" ? virtual.filter((path) => path !== layer.path) : virtual,
      registration,
    });
  }

  private mode(mode: Mode): void {
    if (this.state.mode === mode || this.scene === null || (mode === "curtain" && this.scene.common === null)) return;
    this.stage?.remember();
    this.state.mode = mode;
    this.build();
    this.write();
  }

  /** Keep the address up to date, not more often than browsers allow. */
  private write(): void {
    clearTimeout(this.written);
    this.written = window.setTimeout(() => {
      this.remember();
      history.replaceState(null, "", writeState(this.state));
    }, 200);
  }

  private remember(): void {
    this.stage?.remember();
    if (this.overlays.loaded) this.state.on = this.overlays.words();
  }

  private async copy(): Promise<void> {
    this.remember();
    const address = new URL(writeState(this.state), location.href).href;
    this.said.textContent = (await copyText(address)) ? "Link copied." : "The browser does not let pages copy; copy the address.";
    setTimeout(() => (this.said.textContent = ""), 4000);
  }

  private tools(): void {
    const { state, scene } = this;
    const panel = (name: string, element: HTMLElement, id: string): HTMLElement => {
      const button: HTMLButtonElement = h("button", { "aria-expanded": String(!element.hidden), "data-testid": id }, name);
      button.addEventListener("click", () => {
        element.hidden = !element.hidden;
        button.setAttribute("aria-expanded", String(!element.hidden));
      });
      return button;
    };
    const mode = (name: string, value: Mode, off: boolean, title: string): HTMLElement =>
      h(
        "button",
        { "aria-pressed": String(state.mode === value), disabled: off, title, onclick: () => this.mode(value), "data-testid": `mode-${value}` },
        name,
      );
    const loose = scene?.common == null;
    const related = scene?.related ?? false;
    const locked = h(
      "button",
      { "aria-pressed": String(related && (state.locked || state.mode === "curtain")), disabled: !related || state.mode === "curtain", title: "Panes move together (l)", onclick: () => this.lock(), "data-testid": "lock" },
      "Locked",
    );
    const picking = state.he !== null && state.ihc !== null;
    put(
      this.bar,
      panel("Slides", this.picker.element, "panel-slides"),
      scene?.view.patient != null && h("strong", { class: "patient" }, scene.view.patient),
      h("span", { class: "segmented", role: "group", "aria-label": "Mode" }, mode("Side by side", "side", scene === null, "Each slide as it was scanned (s)"), mode("Curtain", "curtain", loose, loose ? "Needs two slides that are registered" : "One slide over the other (c)")),
      locked,
      h("button", { onclick: () => this.stage?.fit(), title: "Show the whole slide (0)", disabled: scene === null }, "Fit"),
      h("button", { onclick: () => this.stage?.sharp(), title: "One screen px for each px of the slide (z)", disabled: scene === null, "data-testid": "sharp" }, "1:1"),
      h("button", { onclick: () => void this.copy(), title: "A link that shows exactly this", disabled: scene === null, "data-testid": "copy-link" }, "Copy link"),
      picking && h("a", { class: "button", href: link("landmarks", { he: state.he, ihc: state.ihc }) }, "Landmarks"),
      this.said,
      h("span", { class: "grow" }),
      panel("Overlays", this.overlays.element, "panel-overlays"),
      h("button", { onclick: () => this.help(), "aria-label": "Help: keys", title: "Keys (?)" }, "?"),
    );
  }

  /** What the user should know of the case: no registration, a rejected one, unknown um/px. */
  private notice(): void {
    const { scene, state } = this;
    if (scene === null) return;
    const lines: HTMLElement[] = [];
    const pair = state.he !== null && state.ihc !== null;
    const { registration_problem: problem, quality } = scene.view;
    if (problem) lines.push(banner("warning", problem));
    if (quality?.status === "rejected") {
      lines.push(banner("warning", `This registration was rejected${quality.reason ? `: ${quality.reason}` : ""}. Do not trust the lock.`));
    }
    if (pair && scene.transform === null && !problem) {
      const to = h("a", { href: link("landmarks", { he: state.he, ihc: state.ihc }) }, "mark landmarks");
      lines.push(banner("warning", "These slides are not registered, so the panes move by themselves. Register them, or ", to, "."));
    }
    const unknown = scene.layers.filter((layer) => layer.slide !== null && layer.frame === null);
    if (unknown.length > 0 && scene.layers.length > 1) {
      lines.push(banner("info", "On whose pixels a virtual slide lies is not known: say it above its pane to lock it to the others."));
    }
    put(this.notices, ...lines);
  }

  private lock(): void {
    this.state.locked = !this.state.locked;
    this.stage?.lock(this.state.locked);
    this.tools();
    this.write();
  }

  private help(): void {
    help("Keys of the viewer", KEYS);
  }

  private key(event: KeyboardEvent): void {
    if (typing(event) || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const action = keyOf(event);
    if (action === null) return;
    if (action.help) this.help();
    else if (action.overlay !== undefined) this.overlays.toggle(action.overlay);
    else if (action.mode !== undefined) this.mode(action.mode);
    else if (action.lock) this.lock();
    else if (this.stage === null || !this.stage.act(action)) return;
    event.preventDefault();
  }
}
