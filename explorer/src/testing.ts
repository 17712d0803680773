/** window.isthmus: what tests and benchmarks ask of the page. README.md of this folder describes it. */
import type { App } from "./app";
import { compose } from "./save";
import { solve } from "./restore";
import { Told } from "./told";

export interface MapRequest {
  /** y (C H W), missing pixels 0. */
  measured: number[];
  /** (H W), 1 where seen; by default everything is. */
  seen?: number[];
  sigma: number;
  /** Name of a density; by default that of the page. */
  prior?: string;
  /** Code to begin from (D); by default the encoder's of `measured`. */
  start?: number[];
  steps?: number;
}

export interface Api {
  ready: Promise<void>;
  decode(codes: number[][]): Promise<Float32Array>;
  encode(images: number[][]): Promise<Float32Array>;
  classify(images: number[][]): Promise<Float32Array>;
  map(
    request: MapRequest,
  ): Promise<{ code: number[]; objective: number; path: number[]; image: number[]; converged: boolean }>;
  logProb(prior: string, codes: number[][]): number[];
  turn(frames: number): Promise<{ milliseconds: number; framesPerSecond: number }>;
  png(): string;
  stats(): Stats;
}

export interface Stats {
  points: number;
  webgl: boolean;
  firstMap: number; // ms since the page was asked for
  firstPicture: number;
  delays: number[]; // ms from a pointer's event to the decoded picture
  frames: number[]; // ms of drawing the map, on this thread
}

declare global {
  interface Window {
    isthmus: Api;
  }
}

export const times = { firstMap: NaN, firstPicture: NaN };

/** Arguments: app: undefined until the page has been built. */
export function expose(ready: Promise<void>, app: () => App | undefined): void {
  const here = (): App => {
    const found = app();
    if (found === undefined) throw new Told("The page is not ready: wait for isthmus.ready.");
    return found;
  };
  const rows = (given: number[][]): [Float32Array, number] => [Float32Array.from(given.flat()), given.length];
  window.isthmus = {
    ready,
    decode: (codes) => here().networks.decode(...rows(codes)),
    encode: (images) => here().networks.encode(...rows(images)),
    classify: (images) => here().networks.classify(...rows(images)),
    map: async ({ measured, seen, sigma, prior, start, steps }) => {
      const { networks, data } = here();
      const density = data.densities?.kinds.get(prior ?? data.densities.default);
      if (density === undefined) throw new Told(`There is no density ${prior ?? ""}.`);
      const given = Float32Array.from(measured);
      const begin = start === undefined ? await networks.encode(given, 1) : Float32Array.from(start);
      const problem = {
        decode: (codes: Float32Array, count: number) => networks.decode(codes, count),
        measured: given,
        seen: seen === undefined ? null : Float32Array.from(seen),
        sigma,
        prior: density,
        scale: data.variances.map(Math.sqrt),
      };
      const found = await solve(problem, begin, steps === undefined ? {} : { steps });
      return { ...found, code: [...found.code], image: [...found.image] };
    },
    logProb: (prior, codes) => {
      const density = here().data.densities?.kinds.get(prior);
      if (density === undefined) throw new Told(`There is no density ${prior}.`);
      return codes.map((code) => density.logProb(code));
    },
    turn: (frames) => {
      const { stage } = here();
      if (stage === null) throw new Told("This run has no map.");
      return stage.turn(frames);
    },
    png: () => compose(here()).toDataURL("image/png"),
    stats: () => {
      const { stage, hand, data } = here();
      return {
        points: data.count,
        webgl: stage?.webgl ?? false,
        ...times,
        delays: [...hand.delays],
        frames: [...(stage?.frames ?? [])],
      };
    },
  };
}
