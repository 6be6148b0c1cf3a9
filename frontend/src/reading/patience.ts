/** Try again what failed for a reason that passes: no server, a full disk, too many requests. */

import { ApiError } from "../api";

/** Waits between tries, ms; the last is repeated. */
const WAITS = [1000, 2000, 4000, 8000, 15_000];

/** Whether asking again may help: the server is away or restarting, busy, or its disk is full. */
export function passing(error: unknown): error is ApiError {
  return error instanceof ApiError && (error.status === 0 || error.status === 429 || error.status >= 500);
}

/** As `passing`, for images: an error inside the server (500) is this image's, and will be there the next time too. */
export function passingForImage(error: unknown): error is ApiError {
  return passing(error) && error.status !== 500;
}

/** What is tried until it works, fails for good, or is no longer wanted. */
export class Patience {
  private readonly asleep = new Set<() => void>();
  private over = false;

  /** @param onWait told of each failure that is waited for; null: it goes on */
  constructor(private readonly onWait: (error: ApiError | null) => void) {
    window.addEventListener("online", this.now);
  }

  /** Try at once (the button, or the network is back). */
  readonly now = (): void => {
    for (const wake of [...this.asleep]) wake();
  };

  /**
   * @param work what is tried
   * @param wanted whether its outcome still matters; once it does not, this never returns
   * @param passes whether an error is one that passes
   * @returns what `work` gave at last
   * @throws what `work` threw, if asking again cannot help
   */
  async until<T>(
    work: () => Promise<T>,
    wanted: () => boolean = () => true,
    passes: (error: unknown) => error is ApiError = passing,
  ): Promise<T> {
    const gone = (): boolean => this.over || !wanted();
    for (let turn = 0; ; turn++) {
      try {
        const found = await work();
        if (gone()) return await never<T>();
        if (turn > 0) this.onWait(null);
        return found;
      } catch (error) {
        if (gone()) return never<T>();
        if (!passes(error)) {
          if (turn > 0) this.onWait(null);
          throw error;
        }
        this.onWait(error);
        await this.pause(WAITS[Math.min(turn, WAITS.length - 1)] ?? 15_000);
        if (gone()) return never<T>();
      }
    }
  }

  stop(): void {
    this.over = true;
    window.removeEventListener("online", this.now);
    this.now();
  }

  private pause(milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        clearTimeout(timer);
        this.asleep.delete(wake);
        resolve();
      };
      const timer = setTimeout(wake, milliseconds);
      this.asleep.add(wake);
    });
  }
}

/** The page was left: what waits for this is let go with it. */
function never<T>(): Promise<T> {
  return new Promise<T>(() => undefined);
}
