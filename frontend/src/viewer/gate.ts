/** Lets few through at a time. */

export class Gate {
  private free: number;
  private readonly waiting: (() => void)[] = [];

  constructor(limit: number) {
    this.free = limit;
  }

  /** Do the work when it is its turn; who came last comes first, as that is what is on the screen now. */
  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.free > 0) this.free--;
    else await new Promise<void>((resolve) => this.waiting.push(resolve));
    try {
      return await work();
    } finally {
      const next = this.waiting.pop();
      if (next === undefined) this.free++;
      else next();
    }
  }
}
