/**
 * Calls of an action to other services, with no transaction open in the meantime.
 *
 * A call with `fetch` ends the transaction. After the response, the action runs again from the
 * start, and gets the stored responses to the calls that it has made.
 */

/** Maximum number of times that one action makes calls, which may differ from run to run. */
const MAX_TURNS = 50;

interface Made {
  url: string;
  result:
    | { status: number; statusText: string; headers: [string, string][]; body: ArrayBuffer }
    | { error: unknown };
}

/** The responses of the calls that one action has made. */
export class Calls {
  readonly #made: Made[] = [];
  #next = 0;
  #turns = 0;
  #pending: Request[] = [];
  #suspend: () => void = () => {};

  /** Begins a run. The result settles when the run needs a response that is missing. */
  begin(): Promise<void> {
    this.#next = 0;
    this.#pending = [];
    return new Promise((resolve) => (this.#suspend = resolve));
  }

  /** Replaces `fetch` in an action. Never settles if the response is missing. */
  fetch(input: string | URL | Request, init?: RequestInit): Promise<Response> {
    const request = new Request(input, init);
    const index = this.#next++;
    const made = this.#made[index];
    if (made && made.url === request.url) {
      if ("error" in made.result) return Promise.reject(made.result.error);
      const { status, statusText, headers, body } = made.result;
      const hasBody = ![101, 204, 205, 304].includes(status);
      return Promise.resolve(
        new Response(hasBody ? body.slice(0) : null, { status, statusText, headers }),
      );
    }
    this.#made.length = Math.min(this.#made.length, index);
    this.#pending.push(request);
    // Calls of the same moment, such as those of `Promise.all`, are made together.
    setImmediate(this.#suspend);
    return new Promise(() => {});
  }

  /** Makes the calls that the last run needs. */
  async make(): Promise<void> {
    if (++this.#turns > MAX_TURNS) {
      throw new Error(`the action makes more than ${MAX_TURNS} calls, or other calls in each run`);
    }
    this.#made.push(...(await Promise.all(this.#pending.map(makeOne))));
  }
}

async function makeOne(request: Request): Promise<Made> {
  const { url } = request;
  try {
    const response = await original(request);
    const { status, statusText } = response;
    const body = await response.arrayBuffer();
    // The body is decoded already.
    const headers = [...response.headers].filter(
      ([name]) => !/^content-(encoding|length)$/.test(name),
    );
    return { url, result: { status, statusText, headers, body } };
  } catch (error) {
    return { url, result: { error } };
  }
}

const original = globalThis.fetch;

/** Makes `fetch` use the calls of the running action. `running` returns them. */
export function interceptFetch(running: () => Calls | null): void {
  globalThis.fetch = (input, init) => running()?.fetch(input, init) ?? original(input, init);
}
