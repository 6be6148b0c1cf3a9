/** One image, to be zoomed and moved: wheel, drag, two fingers, keys. */

import { h } from "../dom";

/** Screen px per image px. */
const LARGEST = 8;
const STEP = 1.25;
/** Of grey on all sides of a fitted image, screen px. */
const RIM = 16;
/** Small images are shown at a whole multiple of their size, at most this one. */
const WHOLE = 2;
/** From this many device pixels for one of the image on, they are shown as squares: nothing is made up between them. */
const SQUARES = 2;

export class Stage {
  readonly element: HTMLElement;
  private image: HTMLImageElement | null = null;
  private scale = 1;
  /** Centre of the image from the centre of the stage, screen px. */
  private shift = { x: 0, y: 0 };
  private fitted = true;
  private readonly pointers = new Map<number, { x: number; y: number }>();
  private readonly watcher: ResizeObserver;

  /** @param onScale told of the scale, screen px per image px */
  constructor(private readonly onScale: (scale: number) => void) {
    this.element = h("div", {
      class: "stage",
      "data-testid": "stage",
      onwheel: (event: WheelEvent) => this.wheel(event),
      onpointerdown: (event: PointerEvent) => this.down(event),
      onpointermove: (event: PointerEvent) => this.move(event),
      onpointerup: (event: PointerEvent) => this.pointers.delete(event.pointerId),
      onpointercancel: (event: PointerEvent) => this.pointers.delete(event.pointerId),
    });
    this.watcher = new ResizeObserver(() => (this.fitted ? this.fit() : this.draw()));
    this.watcher.observe(this.element);
  }

  /** Show an image as a whole; null: show nothing. */
  show(image: HTMLImageElement | null, description = ""): void {
    this.image = image;
    this.element.replaceChildren();
    if (image === null) return;
    image.alt = description;
    this.element.append(image);
    this.fit();
  }

  /** The whole image, at most in its own size where it is large. */
  fit(): void {
    this.fitted = true;
    this.shift = { x: 0, y: 0 };
    this.scale = this.fitting();
    this.draw();
  }

  /** Closer (positive) or farther, around the middle of the stage. */
  zoom(steps: number): void {
    const next = this.scale * STEP ** steps;
    const over = (this.scale < 1 && next > 1) || (this.scale > 1 && next < 1); // its own size is not skipped
    this.zoomAt(over ? 1 / this.scale : STEP ** steps, { x: 0, y: 0 });
  }

  /** Move the view by parts of the stage. */
  pan(right: number, down: number): void {
    this.shift.x -= right * this.element.clientWidth;
    this.shift.y -= down * this.element.clientHeight;
    this.fitted = false;
    this.draw();
  }

  leave(): void {
    this.watcher.disconnect();
  }

  private fitting(): number {
    if (this.image === null) return 1;
    const ratio = Math.min(
      (this.element.clientWidth - 2 * RIM) / this.image.naturalWidth,
      (this.element.clientHeight - 2 * RIM) / this.image.naturalHeight,
    );
    return ratio < 1 ? Math.max(ratio, 0.01) : Math.min(WHOLE, Math.floor(ratio));
  }

  private zoomAt(factor: number, at: { x: number; y: number }): void {
    const scale = Math.min(LARGEST, Math.max(Math.min(this.fitting(), 1), this.scale * factor));
    const real = scale / this.scale;
    this.shift = { x: at.x + (this.shift.x - at.x) * real, y: at.y + (this.shift.y - at.y) * real };
    this.scale = scale;
    this.fitted = false;
    this.draw();
  }

  private draw(): void {
    const image = this.image;
    if (image === null) return;
    const width = image.naturalWidth * this.scale;
    const height = image.naturalHeight * this.scale;
    // At least the middle of one is over the other: the image cannot be lost.
    const room = { x: Math.max(width, 0) / 2, y: Math.max(height, 0) / 2 };
    this.shift.x = Math.max(-room.x, Math.min(room.x, this.shift.x));
    this.shift.y = Math.max(-room.y, Math.min(room.y, this.shift.y));
    image.style.width = `${width}px`;
    image.style.height = `${height}px`;
    // Whole pixels, or 1:1 would be blurred.
    image.style.left = `${Math.round((this.element.clientWidth - width) / 2 + this.shift.x)}px`;
    image.style.top = `${Math.round((this.element.clientHeight - height) / 2 + this.shift.y)}px`;
    image.classList.toggle("squares", this.scale * window.devicePixelRatio >= SQUARES);
    this.onScale(this.scale);
  }

  private wheel(event: WheelEvent): void {
    event.preventDefault();
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? event.deltaY * 16 : event.deltaY;
    this.zoomAt(Math.exp(-lines / 400), this.fromMiddle(event));
  }

  private down(event: PointerEvent): void {
    if (event.button !== 0) return;
    this.element.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  }

  private move(event: PointerEvent): void {
    const before = this.pointers.get(event.pointerId);
    if (before === undefined) return;
    const now = { x: event.clientX, y: event.clientY };
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
    this.pointers.set(event.pointerId, now);
    this.shift.x += (now.x - before.x) / this.pointers.size;
    this.shift.y += (now.y - before.y) / this.pointers.size;
    this.fitted = false;
    if (other === undefined) {
      this.draw();
    } else {
      const apart = (point: { x: number; y: number }): number => Math.hypot(point.x - other.x, point.y - other.y) || 1;
      this.zoomAt(apart(now) / apart(before), this.fromMiddle(event));
    }
  }

  private fromMiddle(event: MouseEvent): { x: number; y: number } {
    const box = this.element.getBoundingClientRect();
    return { x: event.clientX - box.left - box.width / 2, y: event.clientY - box.top - box.height / 2 };
  }
}
