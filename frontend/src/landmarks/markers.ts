/** Numbered points on a pane, of the same size at every zoom, that can be dragged. */

import { h } from "../dom";
import type { Pane } from "../viewer/pane";
import type { Point } from "../viewer/pose";
import type { Model, Side } from "./model";

export class Markers {
  private readonly layer = h("div", { class: "markers" });
  private readonly middle = h("div", { class: "middle-cross", "aria-hidden": "true" });
  private shown: { element: HTMLElement; at: Point }[] = [];

  constructor(
    private readonly pane: Pane,
    private readonly side: Side,
    private readonly model: Model,
    private readonly name: string,
  ) {
    pane.element.append(this.middle, this.layer);
  }

  /**
   * Draw the points anew.
   *
   * @param outliers pairs that the fit leaves out
   */
  draw(outliers: Set<number>): void {
    const { chosen } = this.model;
    this.shown = this.model.pairs.flatMap((pair, index) => {
      const at = pair[this.side];
      if (at === null) return [];
      const on = chosen?.index === index;
      const marker = h(
        "button",
        {
          class: `marker${on ? " on" : ""}${on && chosen?.side === this.side ? " chosen" : ""}${outliers.has(index) ? " outlier" : ""}`,
          tabindex: -1, // reached with n, and through the table
          "aria-label": `Point ${index + 1} on the ${this.name}`,
          "data-testid": `marker-${this.side}-${index + 1}`,
          onpointerdown: (event: PointerEvent) => this.grab(event, index),
        },
        h("span", { class: "label" }, index + 1),
      );
      return [{ element: marker, at }];
    });
    this.layer.replaceChildren(...this.shown.map(({ element }) => element));
    this.place();
  }

  /** After each movement of the pane. */
  place(): void {
    const { size } = this.pane;
    for (const { element, at } of this.shown) {
      const { x, y } = this.pane.toScreen(at);
      element.hidden = !(x > -20 && y > -20 && x < size.x + 20 && y < size.y + 20);
      element.style.transform = `translate(${x}px, ${y}px)`;
    }
  }

  /** The window listens, as the marker is drawn anew while it moves. */
  private grab(event: PointerEvent, index: number): void {
    if (event.button !== 0) return;
    event.preventDefault();
    event.stopPropagation();
    const { model, pane } = this;
    const start = { x: event.clientX, y: event.clientY };
    const at = model.pairs[index]?.[this.side];
    if (!at) return;
    const from = pane.toScreen(at);
    model.hold();
    model.choose({ index, side: this.side });
    pane.viewer.canvas.focus({ preventScroll: true });
    const move = (moved: PointerEvent): void => {
      model.move(pane.toGrid({ x: from.x + moved.clientX - start.x, y: from.y + moved.clientY - start.y }));
    };
    const end = (): void => {
      removeEventListener("pointermove", move);
      removeEventListener("pointerup", end);
      removeEventListener("pointercancel", end);
      model.release();
    };
    addEventListener("pointermove", move);
    addEventListener("pointerup", end);
    addEventListener("pointercancel", end);
  }
}
