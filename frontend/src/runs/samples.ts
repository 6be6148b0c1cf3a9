/** The pictures that a training leaves, of several runs side by side, over the epochs. */

import { address, type RunView } from "../api";
import { h, put } from "../dom";
import { swatch, type Look } from "./looks";

export interface SampleRun {
  label: string;
  task: string;
  look: Look;
  samples: RunView["samples"];
}

/** `epoch_0012.jpg` is epoch 12; other names stay. */
function title(name: string): string {
  const epoch = /^epoch_0*(\d+)\.\w+$/.exec(name)?.[1];
  return epoch === undefined ? name : `epoch ${epoch}`;
}

export class Samples {
  readonly element: HTMLElement;
  private names: string[] = [];
  private runs: SampleRun[] = [];
  /** What is looked at; null: always the latest. */
  private chosen: string | null = null;
  private shown = "";
  private readonly slider: HTMLInputElement;
  private readonly label = h("output", { class: "number", for: "sample" });
  private readonly row = h("div", { class: "sample-row" });

  constructor() {
    this.slider = h("input", { id: "sample", type: "range", min: 0, step: 1, oninput: () => this.slide() });
    this.element = h(
      "section",
      { class: "samples", "aria-label": "Sample pictures" },
      h("h2", {}, "Sample pictures"),
      h("div", { class: "row" }, h("label", { for: "sample" }, "Epoch"), this.slider, this.label),
      this.row,
    );
  }

  update(runs: SampleRun[]): void {
    this.runs = runs.filter(({ samples }) => samples.length > 0);
    const names = new Set(runs.flatMap((run) => run.samples.map(({ name }) => name)));
    this.names = [...names].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
    this.element.hidden = this.names.length === 0;
    this.slider.max = String(Math.max(0, this.names.length - 1));
    this.slider.disabled = this.names.length < 2;
    const place = this.chosen === null ? -1 : this.names.indexOf(this.chosen);
    this.slider.value = String(place < 0 ? this.names.length - 1 : place);
    this.draw();
  }

  private slide(): void {
    const place = Number(this.slider.value);
    this.chosen = place === this.names.length - 1 ? null : (this.names[place] ?? null);
    this.draw();
  }

  private draw(): void {
    const name = this.names[Number(this.slider.value)];
    if (name === undefined) return;
    const text = `${title(name)}${this.chosen === null ? " (latest)" : ""}`;
    put(this.label, text);
    this.slider.setAttribute("aria-valuetext", text);
    const found = this.runs.map((run) => ({ run, sample: run.samples.find((one) => one.name === name) }));
    // The same pictures are not loaded again every two seconds.
    const state = found.map(({ run, sample }) => `${run.label} ${sample?.path} ${sample?.bytes}`).join("\n");
    if (state === this.shown) return;
    this.shown = state;
    put(this.row, ...found.map(({ run, sample }) => figure(run, name, sample)));
  }
}

function figure(run: SampleRun, name: string, sample: SampleRun["samples"][number] | undefined): HTMLElement {
  const columns = run.task === "stain" ? "H&E, virtual IHC, real IHC" : "";
  const caption = h("figcaption", {}, swatch(run.look), ` ${run.label}`);
  if (sample === undefined) return h("figure", {}, caption, h("p", { class: "muted" }, `No picture of ${title(name)}.`));
  const source = address("/api/run/sample", { path: sample.path, v: sample.bytes });
  const image: HTMLImageElement = h("img", {
    src: source,
    alt: `Sample of ${run.label}, ${title(name)}${columns ? `; from left to right: ${columns}` : ""}`,
    onerror: () => image.closest("a")?.replaceWith(h("p", { class: "muted" }, `${sample.path} cannot be shown. Is it complete?`)),
  });
  return h(
    "figure",
    {},
    caption,
    columns ? h("p", { class: "muted small" }, `Left to right: ${columns}`) : null,
    h("a", { href: source, target: "_blank", rel: "noopener", title: "Open alone" }, image),
  );
}
