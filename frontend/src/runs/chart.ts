/** One quantity of several runs over the steps: raw and smoothed, read by pointer or keys. */

import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { h, put } from "../dom";
import { swatch, type Look } from "./looks";
import { smooth, type Curve } from "./table";

/** A run's part of the chart. */
export interface Line {
  label: string;
  look: Look;
  curve: Curve;
}

export interface Options {
  smoothing: number;
  log: boolean;
}

const HEIGHT = 210;

/** All charts of a page move their cursors together. */
export type Linked = (from: Chart, x: number | null) => void;

export class Chart {
  readonly element: HTMLElement;
  private readonly plot: uPlot;
  private readonly readout = h("p", { class: "readout small" });
  private readonly spoken = h("span", { class: "visually-hidden", "aria-live": "polite" });
  private readonly watcher: ResizeObserver;
  private lines: Line[] = [];
  /** Where the cursor is; null: nowhere, the end is read. */
  private at: number | null = null;
  private readonly log: boolean;
  private raw: (number | null)[][] = [];

  /**
   * @param name the quantity
   * @param abscissa what it is drawn over
   * @param lines one for each run; later updates have as many, in this order
   * @param linked told where the pointer is, as a value of the abscissa
   */
  constructor(
    readonly name: string,
    readonly abscissa: string,
    lines: Line[],
    private readonly options: Options,
    private readonly linked: Linked,
  ) {
    const positive = lines.some(({ curve }) => curve.y.some((value) => value !== null && value > 0));
    this.log = options.log && positive;
    const canvas = h("div", {
      class: "canvas",
      tabindex: 0,
      role: "group",
      "aria-label": `${name} by ${abscissa}: left and right arrow keys read values`,
      onkeydown: (event: KeyboardEvent) => this.key(event),
      onblur: () => this.linked(this, null),
    });
    this.plot = new uPlot(this.layout(lines), this.arrange(lines), canvas);
    this.element = h(
      "section",
      { class: "chart", "aria-label": name },
      h("h3", {}, name, options.log && !positive ? h("span", { class: "muted small" }, " (nothing above 0: not logarithmic)") : null),
      canvas,
      this.readout,
      this.spoken,
    );
    this.plot.over.addEventListener("mouseleave", () => this.linked(this, null));
    this.point(null);
    this.watcher = new ResizeObserver(() => {
      if (canvas.clientWidth > 0) this.plot.setSize({ width: canvas.clientWidth, height: HEIGHT });
    });
    this.watcher.observe(canvas);
  }

  update(lines: Line[]): void {
    const before = this.plot.data[0];
    const { min, max } = this.plot.scales["x"] ?? {};
    const closer = (min ?? 0) > (before[0] ?? 0) || (max ?? 0) < (before[before.length - 1] ?? 0);
    this.plot.setData(this.arrange(lines), !closer);
    if (closer) this.plot.redraw();
    this.point(this.at);
  }

  /** Put the cursor at a value of the abscissa and read there; null: take it away and read the end. */
  point(x: number | null): void {
    this.at = x;
    const xs = this.plot.data[0];
    const place = x === null ? xs.length - 1 : nearest(xs, x);
    this.plot.setCursor(x === null || place < 0 ? { left: -10, top: -10 } : { left: this.plot.valToPos(xs[place] ?? 0, "x"), top: 0 }, false);
    const values = this.lines.map((line, index) => ({ line, value: this.valueAt(index, place, x === null) }));
    put(
      this.readout,
      h("span", { class: "at" }, x === null ? "last" : `${this.abscissa} ${xs[place] ?? ""}`),
      ...values.map(({ line, value }) => h("span", { title: line.label }, swatch(line.look), shortNumber(value))),
    );
  }

  leave(): void {
    this.watcher.disconnect();
    this.plot.destroy();
  }

  private valueAt(index: number, place: number, last: boolean): number | null {
    const values = this.raw[index] ?? [];
    if (!last) return values[place] ?? null;
    return values.filter((value) => value !== null).at(-1) ?? null;
  }

  /** Columns for uPlot: the abscissa of all runs, then raw and (where asked for) smoothed values of each. */
  private arrange(lines: Line[]): uPlot.AlignedData {
    this.lines = lines;
    const drawn = (values: (number | null)[]): (number | null)[] =>
      this.log ? values.map((value) => (value !== null && value > 0 ? value : null)) : values;
    const tables = lines.map(({ curve }): uPlot.AlignedData => {
      const columns = [curve.x, drawn(curve.y)];
      if (this.options.smoothing > 0) columns.push(drawn(smooth(curve.y, this.options.smoothing)));
      return columns as uPlot.AlignedData;
    });
    const joined = uPlot.join(tables);
    const each = this.options.smoothing > 0 ? 2 : 1;
    this.raw = lines.map((_, index) => [...(joined[1 + index * each] ?? [])].map((value) => value ?? null));
    return joined;
  }

  private layout(lines: Line[]): uPlot.Options {
    const smoothing = this.options.smoothing > 0;
    const ink = { stroke: "#566069", grid: { stroke: "#e4e8eb", width: 1 }, ticks: { stroke: "#d5dade", width: 1 }, font: "12px system-ui, sans-serif" };
    return {
      width: 400,
      height: HEIGHT,
      legend: { show: false },
      cursor: { y: false, drag: { x: true, y: false }, points: { size: 7 } },
      scales: { x: { time: false }, y: this.log ? { distr: 3 } : {} },
      axes: [
        { ...ink, size: 34, values: (_, ticks) => ticks.map(shortNumber) },
        { ...ink, size: 62, values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : shortNumber(tick))) },
      ],
      series: [
        {},
        ...lines.flatMap(({ label, look }): uPlot.Series[] => {
          const main = { label, stroke: look.color, width: 1.8, dash: look.dash, spanGaps: true, points: { show: false } };
          const few: uPlot.Series = { ...main, points: { show: (plot, series) => count(plot.data[series]) < 2, size: 5 } };
          return smoothing ? [{ ...main, width: 1, dash: [], alpha: 0.28 }, few] : [few];
        }),
      ],
      hooks: {
        setCursor: [
          (plot) => {
            if (!plot.over.matches(":hover")) return;
            const { idx } = plot.cursor;
            this.linked(this, idx === null || idx === undefined ? null : (plot.data[0][idx] ?? null));
          },
        ],
      },
    };
  }

  private key(event: KeyboardEvent): void {
    const xs = this.plot.data[0];
    const now = this.plot.cursor.idx ?? xs.length;
    const large = Math.max(1, Math.round(xs.length / 20));
    const moves: Record<string, number> = {
      ArrowLeft: now - 1,
      ArrowRight: now + 1,
      PageUp: now - large,
      PageDown: now + large,
      Home: 0,
      End: xs.length - 1,
    };
    const to = moves[event.key];
    if (to === undefined || xs.length === 0) return;
    event.preventDefault();
    const place = Math.max(0, Math.min(xs.length - 1, to));
    const x = xs[place] ?? 0;
    this.point(x);
    this.linked(this, x);
    const said = this.lines.map((line, index) => `${line.label} ${shortNumber(this.valueAt(index, place, false))}`);
    put(this.spoken, `${this.abscissa} ${x}: ${said.join(", ")}`);
  }
}

function nearest(xs: ArrayLike<number>, x: number): number {
  let best = -1;
  for (let place = 0; place < xs.length; place++) {
    if (best < 0 || Math.abs((xs[place] ?? 0) - x) < Math.abs((xs[best] ?? 0) - x)) best = place;
  }
  return best;
}

function count(values: ArrayLike<number | null | undefined> | undefined): number {
  return Array.from(values ?? []).filter((value) => value !== null && value !== undefined).length;
}

/** Four digits. */
export function shortNumber(value: number | null): string {
  if (value === null) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-4) return value.toExponential(2).replace("e+", "e").replace(/\.?0+e/, "e");
  return String(Number(value.toPrecision(size >= 1000 ? 7 : 4)));
}
