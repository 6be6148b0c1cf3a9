/** The pairs with their residuals, and what these tell. */

import type { Fit, PointPair } from "../api";
import { banner, h, put } from "../dom";
import { upright } from "../viewer/pose";
import type { Model, Pair } from "./model";

/** A fit, and the pairs that it is of. */
export interface Fitted {
  fit: Fit;
  points: PointPair[];
}

/** The place of a pair in a fit; -1: the fit knows nothing of it. */
export function placeIn(fitted: Fitted | null, { he, ihc }: Pair): number {
  if (fitted === null || he === null || ihc === null) return -1;
  return fitted.points.findIndex(([a, b, c, d]) => a === he.x && b === he.y && c === ihc.x && d === ihc.y);
}

export interface TableEvents {
  /** Look at a pair. */
  look(index: number): void;
}

export class PairTable {
  readonly element = h("aside", { class: "panel pairs", "aria-label": "Pairs", "data-testid": "pairs" });

  constructor(
    private readonly model: Model,
    private readonly events: TableEvents,
  ) {}

  /**
   * @param fitted the latest fit, perhaps of other pairs than there are now; null: none yet
   * @param stale whether the pairs have changed since
   * @param error why there is none
   */
  draw(fitted: Fitted | null, stale: boolean, error: string | null): void {
    const complete = this.model.complete.length;
    const rows = this.model.pairs.map((pair, index) => this.row(pair, index, fitted));
    const names = ["Pair", "Projective, um", "Similarity, um", ""];
    const head = names.map((name, index) => h("th", { class: index === 1 || index === 2 ? "number" : "", scope: "col" }, name));
    const focused = this.element.contains(document.activeElement) ? document.activeElement?.getAttribute("aria-label") : null;
    put(
      this.element,
      h("h2", {}, `Pairs (${complete})`),
      ...this.say(fitted?.fit ?? null, stale, error, complete),
      rows.length > 0 && h("table", { class: stale ? "stale" : "" }, h("thead", {}, h("tr", {}, ...head)), h("tbody", {}, ...rows)),
    );
    if (focused != null) [...this.element.querySelectorAll("button")].find((button) => button.ariaLabel === focused)?.focus();
  }

  private row(pair: Pair, index: number, fitted: Fitted | null): HTMLElement {
    const on = this.model.chosen?.index === index;
    const at = placeIn(fitted, pair);
    const outlier = fitted?.fit.used[at] === false;
    const number = (value: number | null | undefined): string => (value === null || value === undefined ? "–" : value.toFixed(1));
    const look = h(
      "button",
      { class: "quiet", "aria-pressed": String(on), "aria-label": `Look at pair ${index + 1}`, onclick: () => this.events.look(index) },
      index + 1,
    );
    const waits = pair.he && pair.ihc ? null : h("span", { class: "muted small" }, ` ${pair.he ? "IHC" : "H&E"}?`);
    const remove = h("button", { class: "quiet", "aria-label": `Delete pair ${index + 1}`, onclick: () => this.model.remove(index) }, "×");
    return h(
      "tr",
      { class: outlier ? "outlier" : "", "data-testid": "pair" },
      h("td", {}, look, waits, outlier && h("span", { class: "badge bad" }, "outlier")),
      h("td", { class: "number", "data-testid": "residual" }, number(fitted?.fit.residuals_um[at])),
      h("td", { class: "number" }, number(fitted?.fit.similarity_residuals_um[at])),
      h("td", { class: "number" }, remove),
    );
  }

  private say(fit: Fit | null, stale: boolean, error: string | null, complete: number): HTMLElement[] {
    if (error !== null) return [banner("error", error)];
    if (complete < 4) {
      const missing = 4 - complete;
      return [h("p", { class: "muted", role: "status" }, `${missing} more pair${missing > 1 ? "s" : ""} until the slides can be aligned.`)];
    }
    if (fit === null || (stale && fit.error !== null)) return [h("p", { class: "muted", role: "status" }, "Fitting…")];
    const lines: HTMLElement[] = [];
    if (fit.error !== null) lines.push(banner("error", fit.error));
    if (fit.absurd !== null) lines.push(banner("warning", fit.absurd));
    const turn = upright((fit.mirrored ? 180 : 0) - fit.rotation_degrees); // as the viewer says it of the H&E's pane
    const turned = `H&E turned ${turn.toFixed(1)}°, scale ${fit.scale.toFixed(3)}${fit.mirrored ? ", mirrored" : ""}`;
    const rms = fit.rms_um === null ? "" : `${fit.rms_um.toFixed(1)} um rms; `;
    lines.push(h("p", { class: stale ? "stale" : "", "data-testid": "fit", role: "status" }, h("strong", {}, rms), turned));
    lines.push(h("p", { class: "muted small" }, complete === 4 ? FOUR : MORE));
    return lines;
  }
}

const FOUR =
  "Four pairs fix the projective map exactly, so its residuals are 0 whatever was clicked. The similarity (shift, turn, " +
  "scale) cannot bend: a pair that is far off there was perhaps clicked wrong. A fifth pair tells more.";
const MORE =
  "Residual: how far the IHC point, mapped to the H&E, lies from its partner. The projective map is what registration " +
  "starts from; the similarity (shift, turn, scale) shows how much it has to bend.";
