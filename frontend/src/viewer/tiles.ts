/** The server's tiles as a source of OpenSeadragon, with what each refusal means for who looks at them. */

import OpenSeadragon from "openseadragon";
import { address, type Query } from "../api";
import { connection } from "./connection";
import { Gate } from "./gate";

/** A grid of tiles: level-0 px of a slide, or of the slide that another one is warped onto. */
export interface Grid {
  width: number;
  height: number;
  tile: number;
  /** Exponent of the downsample at which the longer side fits a tile. */
  max_z: number;
  /** Coarsest that is served. */
  coarsest_z: number;
}

export interface TileEvents {
  /** The slide is not there any more, or is another one now. */
  vanished(message: string): void;
  /** A tile that cannot be read; each is told once. */
  damaged(key: string, message: string): void;
  /** A tile failed for another reason, and is missing. */
  failed(key: string, message: string): void;
}

const BUSY = new Set([429, 500, 502, 503, 504]);
const TRIES = 3;
/** Browsers open six connections to a server; overlays that take seconds to compute must leave some for the slides. */
const overlays = new Gate(3);

export class Tiles extends OpenSeadragon.TileSource {
  private readonly part: string;
  private readonly query: Query;
  private readonly events: TileEvents;
  private readonly transparent: boolean;
  private readonly running = new Map<OpenSeadragon.ImageJob, AbortController>();

  /**
   * @param grid of the tiles
   * @param part `/api/tile` or `/api/overlay/KIND`
   * @param query what names the slide
   * @param events told of what goes wrong
   * @param transparent overlays; without, tiles are opaque
   */
  constructor(grid: Grid, part: string, query: Query, events: TileEvents, transparent = false) {
    super({
      width: grid.width,
      height: grid.height,
      tileSize: grid.tile,
      tileOverlap: 0,
      minLevel: Math.max(0, grid.max_z - grid.coarsest_z),
      maxLevel: grid.max_z,
    });
    this.part = part;
    this.query = query;
    this.events = events;
    this.transparent = transparent;
  }

  override getTileUrl(level: number, x: number, y: number): string {
    return address(`${this.part}/${this.maxLevel - level}/${x}/${y}`, this.query);
  }

  override hasTransparency(): boolean {
    return this.transparent;
  }

  override downloadTileStart(job: OpenSeadragon.ImageJob): void {
    const abort = new AbortController();
    this.running.set(job, abort);
    void this.download(job, abort.signal).finally(() => this.running.delete(job));
  }

  override downloadTileAbort(job: OpenSeadragon.ImageJob): void {
    this.running.get(job)?.abort();
  }

  /** The image is taken away: nobody waits for its tiles any more. */
  override destroy(): void {
    for (const [job, abort] of [...this.running]) {
      abort.abort();
      job.fail("no longer wanted", null as never);
    }
  }

  private async download(job: OpenSeadragon.ImageJob, signal: AbortSignal): Promise<void> {
    for (let attempt = 1; !signal.aborted; attempt++) {
      let answer: Response;
      try {
        const ask = (): Promise<Response> => fetch(job.src, { signal });
        answer = await (this.transparent ? overlays.run(ask) : ask());
      } catch {
        if (signal.aborted) return;
        connection.lost();
        await connection.back(signal);
        attempt = 0;
        continue;
      }
      if (BUSY.has(answer.status) && attempt < TRIES) {
        await new Promise((resolve) => setTimeout(resolve, 300 * attempt));
        continue;
      }
      await this.finish(job, answer, signal);
      return;
    }
  }

  private async finish(job: OpenSeadragon.ImageJob, answer: Response, signal: AbortSignal): Promise<void> {
    const { width, height } = sizeOf(job.tile);
    if (answer.status === 204) {
      job.finish(blank(width, height), null as never, "context2d");
      return;
    }
    if (answer.ok) {
      try {
        const picture = await createImageBitmap(await answer.blob(), { colorSpaceConversion: "none" });
        if (!signal.aborted) job.finish(picture, null as never, "imageBitmap");
        return;
      } catch {
        if (signal.aborted) return;
        this.events.damaged(job.src, "The tile is no picture.");
        job.finish(hatched(width, height), null as never, "context2d");
        return;
      }
    }
    const message = await answer
      .json()
      .then((body: { error?: unknown }) => String(body.error ?? ""))
      .catch(() => "");
    if (signal.aborted) return;
    if (answer.status === 422) {
      this.events.damaged(job.src, message);
      job.finish(hatched(width, height), null as never, "context2d");
      return;
    }
    if (answer.status === 404 || answer.status === 410) this.events.vanished(message);
    else this.events.failed(job.src, message || `The server answered with status ${answer.status}.`);
    job.fail(message, null as never);
  }
}

function sizeOf(tile: OpenSeadragon.Tile): { width: number; height: number } {
  const bounds = (tile as unknown as { sourceBounds: OpenSeadragon.Rect }).sourceBounds; // not in the types
  return { width: Math.max(1, Math.round(bounds.width)), height: Math.max(1, Math.round(bounds.height)) };
}

function blank(width: number, height: number): CanvasRenderingContext2D {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  if (context === null) throw new Error("This browser draws no canvas.");
  return context;
}

/** What stands where nothing can be read: not white, which would pass for glass. */
function hatched(width: number, height: number): CanvasRenderingContext2D {
  const context = blank(width, height);
  context.fillStyle = "#4a4f53";
  context.fillRect(0, 0, width, height);
  context.strokeStyle = "#b9c0c4";
  context.lineWidth = 3;
  context.beginPath();
  for (let at = -height; at < width; at += 16) {
    context.moveTo(at, height);
    context.lineTo(at + height, 0);
  }
  context.stroke();
  return context;
}
