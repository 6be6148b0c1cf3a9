/** A run that is asked after while it runs. */

import { ApiError, get, type RunView, wordsOf } from "../api";
import { Table } from "./table";

/** Between two questions, ms. */
const EVERY = 2000;

export class LiveRun {
  readonly table = new Table();
  view: RunView | null = null;
  /** Why there is nothing new; null: all is well. */
  problem: string | null = null;
  /** The run is gone or damaged: it is not asked after again by itself. */
  lost = false;

  constructor(readonly path: string) {}

  get live(): boolean {
    return !this.lost && (this.view === null || this.view.status === "running");
  }

  /** Ask for what is new; true: something is. */
  async ask(): Promise<boolean> {
    try {
      const after = this.table.last;
      let found = await get<RunView>("/api/run", { path: this.path, after });
      // A run that was resumed cuts its table back, and a new loss changes its columns: then all rows are asked for.
      const rewritten = after !== null && found.rows.length === 0 && found.updated !== this.view?.updated;
      const whole = after === null || rewritten || !this.table.append(found);
      if (whole && after !== null) found = await get<RunView>("/api/run", { path: this.path });
      if (whole) this.table.fill(found);
      const before = this.view;
      const recovered = this.problem !== null;
      this.view = found;
      this.problem = null;
      this.lost = false;
      return (
        recovered ||
        whole ||
        found.rows.length > 0 ||
        before?.status !== found.status ||
        before.samples.length !== found.samples.length
      );
    } catch (error) {
      const message = wordsOf(error);
      const news = message !== this.problem;
      this.problem = message;
      this.lost = error instanceof ApiError && error.status >= 400 && error.status < 500;
      return news;
    }
  }
}

/** Asks after runs every two seconds while the page is looked at. */
export class Poller {
  private timer: ReturnType<typeof setTimeout> | undefined;
  private over = false;

  /**
   * @param runs asked after
   * @param tell called after each round with whether there is something new
   */
  constructor(
    private readonly runs: LiveRun[],
    private readonly tell: (news: boolean) => void,
  ) {
    document.addEventListener("visibilitychange", this.seen);
  }

  /** Ask now (all runs, also those that are done), then go on. */
  async round(all: boolean): Promise<void> {
    clearTimeout(this.timer);
    const asked = this.runs.filter((run) => all || run.live);
    const news = await Promise.all(asked.map((run) => run.ask()));
    if (this.over) return;
    this.tell(news.some(Boolean));
    this.plan();
  }

  leave(): void {
    this.over = true;
    clearTimeout(this.timer);
    document.removeEventListener("visibilitychange", this.seen);
  }

  private plan(): void {
    clearTimeout(this.timer);
    if (this.over || document.hidden || !this.runs.some((run) => run.live)) return;
    this.timer = setTimeout(() => void this.round(false), EVERY);
  }

  private readonly seen = (): void => {
    if (document.hidden) clearTimeout(this.timer);
    else void this.round(false);
  };
}
