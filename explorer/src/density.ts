/**
 * Densities of codes, as data/density.json holds them: a sum of Gaussians, of which one alone is the simplest.
 *
 *     p(z) = sum_k w_k N(z; m_k, L_k L_k')
 *
 * Notation: z code (D), K parts.
 */
import { inverseOf, logSumExp, solveLower } from "./algebra";
import type { Random } from "./random";
import { Told } from "./told";

const LOG_2PI = Math.log(2 * Math.PI);

interface Component {
  logWeight: number;
  mean: Float64Array;
  root: Float64Array;
  precision: Float64Array;
  constant: number;
}

/** log p, its gradient, and a curvature that stands for minus its Hessian. */
export interface Local {
  value: number;
  gradient: Float64Array;
  curvature: Float64Array;
}

export class Density {
  readonly components: Component[];

  constructor(
    readonly name: string,
    readonly dim: number,
    parts: { weight: number; mean: Float64Array; root: Float64Array }[],
  ) {
    this.components = parts.map(({ weight, mean, root }) => {
      let logRoot = 0;
      for (let i = 0; i < dim; i++) logRoot += Math.log(root[i * dim + i]);
      const logWeight = Math.log(weight);
      const constant = logWeight - logRoot - 0.5 * dim * LOG_2PI;
      return { logWeight, mean, root, precision: inverseOf(root, dim), constant };
    });
  }

  /** log p(z) in nats. */
  logProb(code: ArrayLike<number>): number {
    return logSumExp(this.joint(code));
  }

  /** log p(z), its gradient (D) and sum_k r_k(z) precision_k (D, D), r_k the share of part k in p(z). */
  local(code: ArrayLike<number>): Local {
    const { dim } = this;
    const joint = this.joint(code);
    const value = logSumExp(joint);
    const gradient = new Float64Array(dim);
    const curvature = new Float64Array(dim * dim);
    this.components.forEach((part, k) => {
      const share = Math.exp(joint[k] - value);
      if (!(share > 1e-12)) return;
      for (let i = 0; i < dim; i++) {
        let pull = 0;
        for (let j = 0; j < dim; j++) {
          const entry = part.precision[i * dim + j];
          pull += entry * (part.mean[j] - code[j]);
          curvature[i * dim + j] += share * entry;
        }
        gradient[i] += share * pull;
      }
    });
    return { value, gradient, curvature };
  }

  /** A code drawn at random; `temperature` multiplies every standard deviation, 1 is the density itself. */
  sample(random: Random, temperature = 1): Float32Array {
    let rest = random.uniform();
    let part = this.components[this.components.length - 1];
    for (const each of this.components) {
      rest -= Math.exp(each.logWeight);
      if (rest < 0) {
        part = each;
        break;
      }
    }
    const noise = Float64Array.from({ length: this.dim }, () => random.normal());
    return Float32Array.from({ length: this.dim }, (_, i) => {
      let sum = 0;
      for (let j = 0; j <= i; j++) sum += part.root[i * this.dim + j] * noise[j];
      return part.mean[i] + temperature * sum;
    });
  }

  private joint(code: ArrayLike<number>): Float64Array {
    const { dim } = this;
    const centred = new Float64Array(dim);
    return Float64Array.from(this.components, (part) => {
      for (let i = 0; i < dim; i++) centred[i] = code[i] - part.mean[i];
      const white = solveLower(part.root, centred, dim);
      let square = 0;
      for (let i = 0; i < dim; i++) square += white[i] * white[i];
      return part.constant - 0.5 * square;
    });
  }
}

export interface Densities {
  kinds: Map<string, Density>;
  default: string;
}

/** N(0, I). */
export function standardNormal(dim: number): Density {
  const root = new Float64Array(dim * dim);
  for (let i = 0; i < dim; i++) root[i * dim + i] = 1;
  return new Density("normal", dim, [{ weight: 1, mean: new Float64Array(dim), root }]);
}

/** What density.json holds, for codes of `dim` numbers. Throws Told if it holds something else. */
export function parseDensities(value: unknown, dim: number): Densities {
  try {
    const { kinds, default: first } = value as { kinds: Record<string, Record<string, unknown>>; default: string };
    const found = new Map<string, Density>();
    for (const [name, each] of Object.entries(kinds)) found.set(name, build(name, each, dim));
    if (found.size === 0) throw new Error("none");
    return { kinds: found, default: found.has(first) ? first : [...found.keys()][0] };
  } catch {
    throw new Told(`data/density.json does not hold densities of codes of ${dim} numbers: export the folder again.`);
  }
}

function build(name: string, given: Record<string, unknown>, dim: number): Density {
  if (name === "normal") return standardNormal(dim);
  if (name === "gaussian") {
    return new Density(name, dim, [{ weight: 1, mean: vector(given.mean, dim), root: lower(given.cholesky, dim) }]);
  }
  const weights = given.weights as number[];
  const means = given.means as unknown[];
  const roots = given.choleskys as unknown[];
  const parts = weights.map((weight, k) => ({ weight, mean: vector(means[k], dim), root: lower(roots[k], dim) }));
  return new Density(name, dim, parts);
}

function vector(given: unknown, dim: number): Float64Array {
  const found = Float64Array.from(given as number[]);
  if (found.length !== dim || found.some((entry) => !Number.isFinite(entry))) throw new Error("size");
  return found;
}

function lower(given: unknown, dim: number): Float64Array {
  const rows = given as number[][];
  const found = new Float64Array(dim * dim);
  for (let i = 0; i < dim; i++) {
    for (let j = 0; j <= i; j++) found[i * dim + j] = rows[i][j];
    if (!(found[i * dim + i] > 0)) throw new Error("root");
  }
  return found;
}

/** Share of the real codes that are less dense than a code: where it stands among them. */
export class Ranking {
  private readonly sorted: Float64Array;

  /** Of up to `most` codes, taken evenly from all (N, D). */
  constructor(
    readonly density: Density,
    codes: Float32Array,
    most = 1000,
  ) {
    const count = codes.length / density.dim;
    const taken = Math.min(count, most);
    this.sorted = Float64Array.from({ length: taken }, (_, i) => {
      const row = Math.floor((i * count) / taken);
      return density.logProb(codes.subarray(row * density.dim, (row + 1) * density.dim));
    }).sort();
  }

  share(value: number): number {
    let [low, high] = [0, this.sorted.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.sorted[middle] < value) low = middle + 1;
      else high = middle;
    }
    return this.sorted.length === 0 ? 0 : low / this.sorted.length;
  }
}
