/** Whether the server answers. Whoever fails to reach it says so here and waits; one loop asks until it is back. */

type Listener = (gone: boolean) => void;

const AGAIN = 1500; // ms

class Connection {
  private gone = false;
  private readonly listeners = new Set<Listener>();

  /** Be told when the server goes and comes back; at once where it is gone already. Returns how to stop. */
  watch(listener: Listener): () => void {
    this.listeners.add(listener);
    if (this.gone) listener(true);
    return () => this.listeners.delete(listener);
  }

  /** Somebody got no answer. */
  lost(): void {
    if (this.gone) return;
    this.tell(true);
    void this.ask();
  }

  /** Resolves when the server answers again, or `signal` is aborted. */
  back(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (!this.gone || signal.aborted) {
        resolve();
        return;
      }
      const stop = this.watch((gone) => {
        if (!gone) done();
      });
      const done = (): void => {
        stop();
        signal.removeEventListener("abort", done);
        resolve();
      };
      signal.addEventListener("abort", done);
    });
  }

  private async ask(): Promise<void> {
    while (this.gone) {
      await new Promise((resolve) => setTimeout(resolve, AGAIN));
      try {
        await fetch("/", { cache: "no-store" }); // any answer is one
        this.tell(false);
      } catch {
        // still gone
      }
    }
  }

  private tell(gone: boolean): void {
    this.gone = gone;
    for (const listener of [...this.listeners]) listener(gone);
  }
}

export const connection = new Connection();
