/** Images of the study, the next one fetched while this one is looked at. */

import { ApiError } from "../api";
import type { StudyServer } from "./server";

/** Kept at once: the one before, this one, the next, and one more. */
const KEPT = 4;

export class Pictures {
  private readonly held = new Map<string, Promise<HTMLImageElement>>();

  constructor(private readonly server: StudyServer) {}

  /**
   * The image, decoded.
   *
   * @throws ApiError it could not be had (422: it is no image that a browser can show)
   */
  get(item: string): Promise<HTMLImageElement> {
    const found = this.held.get(item) ?? this.load(item);
    this.held.delete(item); // to the end: the oldest are dropped first
    this.held.set(item, found);
    for (const [old, picture] of this.held) {
      if (this.held.size <= KEPT) break;
      this.held.delete(old);
      void picture.then(release, () => undefined);
    }
    return found;
  }

  /** Fetch what comes next; a failure shows when it is asked for. */
  prepare(item: string | null): void {
    if (item !== null) this.get(item).catch(() => undefined);
  }

  clear(): void {
    for (const picture of this.held.values()) void picture.then(release, () => undefined);
    this.held.clear();
  }

  private async load(item: string): Promise<HTMLImageElement> {
    const image = new Image();
    try {
      image.src = URL.createObjectURL(await this.server.image(item));
      image.draggable = false;
      await image.decode();
      return image;
    } catch (error) {
      this.held.delete(item); // so that asking again asks the server again
      release(image);
      throw error instanceof DOMException ? new ApiError(422, "The image is damaged.") : error;
    }
  }
}

function release(image: HTMLImageElement): void {
  if (image.src) URL.revokeObjectURL(image.src);
}
