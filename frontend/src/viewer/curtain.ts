/** Two layers on the same pixels: the left one hangs over the right one, up to a handle that moves. */

import { h } from "../dom";
import type { Pane } from "./pane";

const STEP = 0.02;
const LARGE = 0.1;

export class Curtain {
  private readonly handle: HTMLElement;

  /**
   * @param element holds both panes and, from now on, the handle
   * @param left hangs over the other, which takes the mouse and was made first: then both are drawn in the same frame
   * @param split where, 0 to 1
   * @param names of both, for the handle
   * @param moved told where the handle is
   */
  constructor(
    private readonly element: HTMLElement,
    private readonly left: Pane,
    private split: number,
    names: [string, string],
    private readonly moved: (split: number) => void,
  ) {
    this.handle = h(
      "div",
      {
        class: "handle",
        role: "separator",
        tabindex: 0,
        "aria-orientation": "vertical",
        "aria-valuemin": 0,
        "aria-valuemax": 100,
        "aria-label": `Curtain: ${names[0]} on its left, ${names[1]} on its right; arrow keys move it`,
        "data-testid": "curtain-handle",
        onkeydown: (event: KeyboardEvent) => this.key(event),
        onpointerdown: (event: PointerEvent) => this.grab(event),
      },
      h("span", { class: "grip", "aria-hidden": "true" }, "⟺"),
    );
    element.append(this.handle);
    this.to(split);
  }

  /** Move the handle by a part of the width. */
  by(part: number): void {
    this.to(this.split + part);
  }

  private to(split: number): void {
    this.split = Math.min(Math.max(split, 0), 1);
    const percent = this.split * 100;
    this.handle.style.left = `${percent}%`;
    this.handle.setAttribute("aria-valuenow", String(Math.round(percent)));
    this.handle.setAttribute("aria-valuetext", `${Math.round(percent)} % from the left`);
    const surface = this.left.viewer.element as HTMLElement;
    surface.style.clipPath = `inset(0 ${100 - percent}% 0 0)`;
    this.moved(this.split);
  }

  private key(event: KeyboardEvent): void {
    const step = event.shiftKey ? LARGE : STEP;
    const steps: Record<string, number> = { ArrowLeft: -step, ArrowRight: step, PageUp: LARGE, PageDown: -LARGE, Home: -1, End: 1 };
    const part = steps[event.key];
    if (part === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    this.by(part);
  }

  private grab(event: PointerEvent): void {
    if (event.button !== 0) return;
    event.preventDefault();
    this.handle.focus();
    this.handle.setPointerCapture(event.pointerId);
    const box = this.element.getBoundingClientRect();
    const offset = event.clientX - (box.left + this.split * box.width);
    const move = (moved: PointerEvent): void => this.to((moved.clientX - offset - box.left) / box.width);
    const end = (): void => {
      this.handle.removeEventListener("pointermove", move);
      this.handle.removeEventListener("pointerup", end);
      this.handle.removeEventListener("pointercancel", end);
    };
    this.handle.addEventListener("pointermove", move);
    this.handle.addEventListener("pointerup", end);
    this.handle.addEventListener("pointercancel", end);
  }
}
