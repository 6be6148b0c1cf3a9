/** A bar of a round number of um. */

import { h } from "../dom";

const LONGEST = 140; // CSS px

/** The longest of 1, 2, 5 x 10^n that is at most `limit`. */
export function round(limit: number): number {
  const power = 10 ** Math.floor(Math.log10(limit));
  const step = [5, 2, 1].find((factor) => factor * power <= limit * (1 + 1e-9)) ?? 1;
  return step * power;
}

/** A number with three digits that mean something, without an exponent. */
export function digits(value: number): string {
  if (!Number.isFinite(value)) return "?";
  const places = Math.min(6, Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value) || 1))));
  return value.toFixed(places);
}

export class ScaleBar {
  readonly element: HTMLElement;
  private readonly bar = h("div", { class: "bar" });
  private readonly text = h("span", {});
  private shown = "";

  constructor() {
    this.element = h("div", { class: "scalebar", "data-testid": "scalebar" }, this.bar, this.text);
  }

  /**
   * @param scale screen px a level-0 px
   * @param mpp um a level-0 px; null: unknown, then there is no bar
   */
  show(scale: number, mpp: number | null): void {
    const key = `${scale} ${mpp}`;
    if (key === this.shown) return;
    this.shown = key;
    if (mpp === null) {
      this.bar.hidden = true;
      this.text.textContent = `${digits(1 / scale)} px a screen px · um/px unknown`;
      return;
    }
    const shown = mpp / scale; // um a screen px
    const length = round(LONGEST * shown);
    this.bar.hidden = false;
    this.bar.style.width = `${length / shown}px`;
    this.text.textContent = `${length >= 1000 ? `${length / 1000} mm` : `${length} um`} · ${digits(shown)} um/px`;
    this.element.dataset["um"] = String(length);
  }
}
