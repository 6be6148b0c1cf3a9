/** The panel of what the folder holds: cases, and every slide by itself. */

import { type Case, type Library, library, wordsOf } from "../api";
import { banner, h, put } from "../dom";
import type { State } from "./state";

export type Slides = Pick<State, "he" | "ihc" | "virtual" | "registration">;

const MOST = 200; // rows that are listed
const VIRTUAL = 4; // of a case that are opened with it

export class Picker {
  readonly element = h("aside", { class: "panel picker", "aria-label": "Slides", "data-testid": "picker" });
  private readonly filter = h("input", { type: "search", placeholder: "Filter", "aria-label": "Filter cases and slides", "data-testid": "filter" });
  private readonly list = h("div", { class: "list" });
  private found: Library | null = null;

  /**
   * @param shown what is open now
   * @param open told what to open in its place
   */
  constructor(
    private readonly shown: () => Slides,
    private readonly open: (slides: Slides) => void,
  ) {
    this.filter.addEventListener("input", () => this.draw());
    put(this.element, h("h2", {}, "Slides"), this.filter, this.list);
  }

  async load(refresh = false): Promise<void> {
    put(this.list, h("p", { class: "muted" }, "Looking through the folder…"));
    try {
      this.found = await library(refresh);
      this.draw();
    } catch (error) {
      put(this.list, banner("error", wordsOf(error)), this.again());
    }
  }

  /** Draw again: other slides are open now. */
  draw(): void {
    if (this.found === null) return;
    const words = this.filter.value.toLowerCase().split(/\s+/);
    const fits = (...texts: (string | null)[]): boolean => {
      const text = texts.join(" ").toLowerCase();
      return words.every((word) => text.includes(word));
    };
    const cases = this.found.cases.filter((one) => fits(one.patient, one.level, one.lab, one.he, one.ihc));
    const slides = this.found.slides.filter((one) => fits(one.path));
    put(
      this.list,
      h("h3", {}, `Cases (${cases.length})`),
      cases.length === 0 && h("p", { class: "muted small" }, "No pair of slides fits."),
      h("ul", { class: "cases" }, ...cases.slice(0, MOST).map((one) => this.case(one))),
      h("h3", {}, `All slides (${slides.length})`),
      h("ul", { class: "slides" }, ...slides.slice(0, MOST).map(({ path }) => this.slide(path))),
      (cases.length > MOST || slides.length > MOST) && h("p", { class: "muted small" }, `The first ${MOST} are listed; type to find others.`),
      this.found.truncated && h("p", { class: "muted small" }, "The folder holds more than was looked through."),
      this.again(),
    );
  }

  private again(): HTMLElement {
    return h("button", { class: "quiet small", onclick: () => void this.load(true) }, "Look again");
  }

  private case(one: Case): HTMLElement {
    const shown = this.shown();
    const open = shown.he === one.he && shown.ihc === one.ihc;
    const slides: Slides = { he: one.he, ihc: one.ihc, virtual: one.virtual.slice(0, VIRTUAL).map(({ path }) => path), registration: one.registration };
    return h(
      "li",
      {},
      h(
        "button",
        { class: "quiet case", "aria-current": open ? "true" : null, onclick: () => this.open(slides), "data-testid": "case" },
        h("strong", {}, one.patient),
        one.level !== null && h("span", { class: "badge" }, one.level),
        h("span", { class: "muted small" }, parts(one)),
      ),
    );
  }

  private slide(path: string): HTMLElement {
    const name = path.split("/").slice(-2).join("/"); // virtual slides are called like those they are of
    const shown = this.shown();
    const roles: [string, boolean, () => Slides][] = [
      ["H&E", shown.he === path, () => ({ ...shown, he: shown.he === path ? null : path, registration: null })],
      ["IHC", shown.ihc === path, () => ({ ...shown, ihc: shown.ihc === path ? null : path, registration: null })],
      [
        "virtual",
        shown.virtual.includes(path),
        () => ({
          ...shown,
          virtual: shown.virtual.includes(path) ? shown.virtual.filter((one) => one !== path) : [...shown.virtual, path],
        }),
      ],
    ];
    const buttons = roles.map(([role, on, next]) =>
      h("button", { class: "small", "aria-pressed": String(on), "aria-label": `${name} as ${role}`, onclick: () => this.open(next()) }, role),
    );
    return h("li", {}, h("span", { class: "name small", title: path }, name), h("span", { class: "segmented" }, ...buttons));
  }
}

function parts(one: Case): string {
  const words = [one.he && "H&E", one.ihc && "IHC", one.virtual.length > 0 && `${one.virtual.length} virtual`, one.registration && "registered"];
  return words.filter(Boolean).join(", ");
}
