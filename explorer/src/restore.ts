/**
 * Restoring by maximum a posteriori, as `isthmus.inverse.map` does: the code that best explains a damaged image.
 *
 *     z* = argmin_z F(z),   F(z) = |y - A D(z)|^2 / (2 sigma_y^2) - log p(z)
 *
 * Steps are those of Levenberg and Marquardt. The decoder's Jacobian comes from central differences, all of its 2 D
 * columns in one batch; of several dampings tried side by side in one more batch, that of lowest F is taken, and only
 * if F falls. Notation: y (P), P pixels of all channels; z (D).
 */
import { cholesky, solveLower, solveUpper } from "./algebra";
import type { Density } from "./density";

export interface Problem {
  /** D: `count` codes (count, D) to images (count, P). */
  decode: (codes: Float32Array, count: number) => Promise<Float32Array>;
  measured: Float32Array;
  /** (H, W), 1 where seen; null where everything is. */
  seen: Float32Array | null;
  sigma: number;
  prior: Density;
  /** Standard deviation of each code axis, from which the differences take their step; (D). */
  scale: ArrayLike<number>;
}

export interface Solution {
  code: Float32Array;
  image: Float32Array;
  objective: number;
  path: number[]; // F at the start and after each step
  converged: boolean;
}

export interface Options {
  steps?: number;
  /** Called with every better code; false ends the search. */
  onStep?: (path: number[], image: Float32Array) => boolean | Promise<boolean>;
}

const STEP = 0.01; // of a difference, in standard deviations of its axis
const DAMPINGS = [0.1, 1, 10, 100]; // tried at once, times the current one
const DECREASE = 1e-6; // of F, relative: converged
const MOST = 1e8; // damping beyond which no step is left

interface Place {
  code: Float32Array;
  image: Float32Array;
  value: number;
}

export async function solve(problem: Problem, start: Float32Array, options: Options = {}): Promise<Solution> {
  const limit = options.steps ?? 40;
  const [first] = await evaluate(problem, start, 1);
  let here = first;
  const path = [here.value];
  let damping = 1e-3;
  let converged = false;
  for (let step = 0; step < limit && !converged; step++) {
    if (options.onStep !== undefined && !(await options.onStep(path, here.image))) break;
    const { hessian, gradient } = await curvature(problem, here);
    let better: Place | null = null;
    while (better === null && damping < MOST) {
      const tried = DAMPINGS.map((factor) => factor * damping);
      const moves = tried.map((each) => move(here.code, hessian, gradient, each));
      const found = await evaluate(
        problem,
        moves.flatMap((code) => [...code]),
        moves.length,
      );
      const best = found.reduce((low, each, i) => (each.value < found[low].value ? i : low), 0);
      if (found[best].value < here.value) {
        better = found[best];
        damping = Math.max(1e-9, tried[best]);
      } else {
        damping *= 1e4;
      }
    }
    if (better === null) {
      converged = true;
      break;
    }
    converged = here.value - better.value <= DECREASE * Math.abs(better.value);
    here = better;
    path.push(here.value);
  }
  await options.onStep?.(path, here.image);
  return { code: here.code, image: here.image, objective: here.value, path, converged };
}

/** F at several codes. */
async function evaluate(problem: Problem, codes: ArrayLike<number>, count: number): Promise<Place[]> {
  const rows = Float32Array.from(codes);
  const images = await problem.decode(rows, count);
  const [dim, size] = [rows.length / count, images.length / count];
  return Array.from({ length: count }, (_, i) => {
    const code = rows.slice(i * dim, (i + 1) * dim);
    const image = images.slice(i * size, (i + 1) * size);
    const value = objective(problem, code, image);
    return { code, image, value: Number.isFinite(value) ? value : Infinity };
  });
}

/** F, given D(z). */
export function objective(problem: Problem, code: ArrayLike<number>, image: Float32Array): number {
  const { measured, seen, sigma, prior } = problem;
  let square = 0;
  for (let i = 0; i < image.length; i++) {
    const apart = (seen === null ? image[i] : image[i] * seen[i % seen.length]) - measured[i];
    square += apart * apart;
  }
  return square / (2 * sigma * sigma) - prior.logProb(code);
}

/** J'A'A J / sigma^2 + Lambda (D, D), and the gradient of F (D). */
async function curvature(problem: Problem, here: Place): Promise<{ hessian: Float64Array; gradient: Float64Array }> {
  const { measured, seen, sigma, prior, scale } = problem;
  const dim = here.code.length;
  const size = here.image.length;
  const rows = new Float32Array(2 * dim * dim);
  const steps = Float64Array.from({ length: dim }, (_, j) => STEP * Math.max(scale[j], 1e-3));
  for (let j = 0; j < dim; j++) {
    for (const side of [0, 1]) {
      const at = (2 * j + side) * dim;
      rows.set(here.code, at);
      rows[at + j] += side === 0 ? steps[j] : -steps[j];
    }
  }
  const images = await problem.decode(rows, 2 * dim);
  const columns: Float64Array[] = [];
  for (let j = 0; j < dim; j++) {
    const [plus, minus] = [2 * j * size, (2 * j + 1) * size];
    // The step that was taken, after rounding to float32.
    const width = (rows[2 * j * dim + j] - rows[(2 * j + 1) * dim + j]) * sigma;
    const column = new Float64Array(size);
    for (let i = 0; i < size; i++) {
      const weight = seen === null ? 1 : seen[i % seen.length];
      column[i] = (weight * (images[plus + i] - images[minus + i])) / width;
    }
    columns.push(column);
  }
  const local = prior.local(here.code);
  const hessian = local.curvature;
  const gradient = new Float64Array(dim);
  for (let j = 0; j < dim; j++) {
    const column = columns[j];
    let sum = 0;
    for (let i = 0; i < size; i++) {
      const weight = seen === null ? 1 : seen[i % seen.length];
      sum += (column[i] * (weight * here.image[i] - measured[i])) / sigma;
    }
    gradient[j] = sum - local.gradient[j];
    for (let k = 0; k <= j; k++) {
      const other = columns[k];
      let product = 0;
      for (let i = 0; i < size; i++) product += column[i] * other[i];
      hessian[j * dim + k] += product;
      if (k !== j) hessian[k * dim + j] += product;
    }
  }
  return { hessian, gradient };
}

/** z - (H + damping mean(diag H) I)^-1 g. */
function move(code: Float32Array, hessian: Float64Array, gradient: Float64Array, damping: number): Float32Array {
  const dim = code.length;
  let mean = 0;
  for (let i = 0; i < dim; i++) mean += hessian[i * dim + i] / dim;
  const damped = hessian.slice();
  for (let i = 0; i < dim; i++) damped[i * dim + i] += damping * mean;
  const root = cholesky(damped, dim);
  if (root === null) return code; // not a descent: a stronger damping is tried next
  const step = solveUpper(root, solveLower(root, gradient, dim), dim);
  return code.map((value, i) => value - step[i]);
}
