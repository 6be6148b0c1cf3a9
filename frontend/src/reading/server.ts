/** The reading room's part of the API: one study, one reader's session. */

import { ApiError, ask, refusal, type Answer, type Confirmed, type ReadingState, type Study } from "../api";
import type { Attempt } from "./answers";

/** No answer within this time counts as a server that does not answer, ms. */
const TIMEOUT = 20_000;

/** The server does not know the session (any more). */
export class LoggedOut extends Error {}

/** The study on the server. */
export class StudyServer {
  private readonly base: string;

  /** @param session of an earlier login; null: log in first */
  constructor(
    id: string,
    public session: string | null,
  ) {
    this.base = `/api/reading/${encodeURIComponent(id)}`;
  }

  study(): Promise<Study> {
    return timed((signal) => ask<Study>(this.base, { signal }));
  }

  async login(code: string): Promise<void> {
    const answer = await timed((signal) =>
      ask<{ session: string }>(`${this.base}/login`, { method: "POST", body: { code }, signal }),
    );
    this.session = answer.session;
  }

  state(): Promise<ReadingState> {
    return this.mine<ReadingState>("state");
  }

  answer(item: string): Promise<Answer> {
    return this.mine<Answer>(`answer/${encodeURIComponent(item)}`);
  }

  /** Returns only when the answer is on the server's disk. The same key twice is stored once. */
  store(attempt: Attempt): Promise<Confirmed> {
    const { item, ...body } = attempt;
    return this.mine<Confirmed>(`answer/${encodeURIComponent(item)}`, body);
  }

  /** The bytes of an image; the session is in a header, so that no address of an image can be passed on. */
  async image(item: string): Promise<Blob> {
    return timed(async (signal) => {
      let answer: Response;
      try {
        answer = await fetch(`${this.base}/image/${encodeURIComponent(item)}`, { headers: this.headers(), signal });
      } catch {
        throw new ApiError(0, "The server does not answer.");
      }
      if (answer.status === 401) throw new LoggedOut();
      if (!answer.ok) throw new ApiError(answer.status, await refusal(answer));
      return answer.blob().catch(() => {
        throw new ApiError(0, "The connection broke off.");
      });
    });
  }

  private async mine<T>(part: string, body?: Omit<Attempt, "item">): Promise<T> {
    try {
      return await timed((signal) =>
        ask<T>(`${this.base}/${part}`, {
          headers: this.headers(),
          signal,
          ...(body === undefined ? {} : { method: "PUT" as const, body }),
        }),
      );
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) throw new LoggedOut();
      throw error;
    }
  }

  private headers(): Record<string, string> {
    return { "X-Reading-Session": this.session ?? "" };
  }
}

async function timed<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  try {
    return await work(AbortSignal.timeout(TIMEOUT));
  } catch (error) {
    if (error instanceof DOMException) throw new ApiError(0, "The server does not answer.");
    throw error;
  }
}
