/** What a page is: a module with `open`. */

export interface Route {
  /** `view`, `landmarks`, `runs`, `report`, `read`; empty: home. */
  page: string;
  /** The rest of the path: the study of `#/read/ID`. */
  rest: string;
  query: URLSearchParams;
}

/** Called when another page opens: stop timers, take listeners off the document. */
export type Leave = () => void;

export interface Page {
  /** Fill `root` (empty) and say how to leave. `route` never changes while the page is open. */
  open(root: HTMLElement, route: Route): Promise<Leave | void> | Leave | void;
}
