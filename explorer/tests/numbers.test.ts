/** Laws of the numerical parts: algebra, densities, MAP, neighbours, ways between codes, damage. */
import { describe, expect, it } from "vitest";
import { cholesky, inverseOf, logSumExp, solveLower, solveUpper } from "../src/algebra";
import { blur, degrade, guess, maskOf, mse, psnr } from "../src/degrade";
import { Density, parseDensities, Ranking, standardNormal } from "../src/density";
import { nearest, shares } from "../src/neighbours";
import { Random } from "../src/random";
import { objective, solve } from "../src/restore";
import { Told } from "../src/told";
import { between } from "../src/walk";

const random = () => new Random(7);

function positive(size: number, source: Random): Float64Array {
  const factor = Float64Array.from({ length: size * size }, () => source.normal());
  return Float64Array.from({ length: size * size }, (_, at) => {
    const [i, j] = [Math.floor(at / size), at % size];
    let sum = i === j ? 0.5 : 0;
    for (let k = 0; k < size; k++) sum += factor[i * size + k] * factor[j * size + k];
    return sum;
  });
}

describe("algebra", () => {
  it("solves with a Cholesky root what the matrix multiplies", () => {
    const [size, source] = [6, random()];
    const matrix = positive(size, source);
    const root = cholesky(matrix, size)!;
    const wanted = Float64Array.from({ length: size }, () => source.normal());
    const right = wanted.map((_, i) => wanted.reduce((sum, value, j) => sum + matrix[i * size + j] * value, 0));
    const found = solveUpper(root, solveLower(root, right, size), size);
    found.forEach((value, i) => expect(value).toBeCloseTo(wanted[i], 10));
    const inverse = inverseOf(root, size);
    for (let i = 0; i < size; i++) {
      let sum = 0;
      for (let k = 0; k < size; k++) sum += matrix[i * size + k] * inverse[k * size + i];
      expect(sum).toBeCloseTo(1, 10);
    }
  });
  it("has no root of a matrix that is not positive", () => {
    expect(cholesky(Float64Array.from([1, 2, 2, 1]), 2)).toBeNull();
  });
  it("adds exponentials without overflow", () => {
    expect(logSumExp(Float64Array.from([1000, 1000]))).toBeCloseTo(1000 + Math.log(2), 12);
  });
});

function mixture(): Density {
  const parts = [
    { weight: 0.3, mean: Float64Array.from([1, 0]), root: Float64Array.from([0.5, 0, 0.2, 0.4]) },
    { weight: 0.7, mean: Float64Array.from([-1, 0.5]), root: Float64Array.from([1, 0, -0.3, 0.8]) },
  ];
  return new Density("mixture", 2, parts);
}

describe("densities", () => {
  it("N(0, I) is what its formula says", () => {
    expect(standardNormal(3).logProb([1, 2, 3])).toBeCloseTo(-0.5 * 14 - 1.5 * Math.log(2 * Math.PI), 12);
  });
  it("a mixture integrates to 1", () => {
    const [density, step] = [mixture(), 0.05];
    let sum = 0;
    for (let x = -7; x < 7; x += step)
      for (let y = -7; y < 7; y += step) sum += Math.exp(density.logProb([x, y])) * step * step;
    expect(sum).toBeCloseTo(1, 4);
  });
  it("the gradient is that of log p", () => {
    const density = mixture();
    const [code, step] = [[0.3, -0.2], 1e-5];
    const { gradient } = density.local(code);
    for (const j of [0, 1]) {
      const moved = (by: number) => density.logProb(code.map((value, i) => value + (i === j ? by : 0)));
      expect(gradient[j]).toBeCloseTo((moved(step) - moved(-step)) / (2 * step), 6);
    }
  });
  it("of one Gaussian the curvature is minus the Hessian of log p, its precision", () => {
    const density = new Density("gaussian", 1, [
      { weight: 1, mean: Float64Array.from([2]), root: Float64Array.from([0.5]) },
    ]);
    expect(density.local([7]).curvature[0]).toBeCloseTo(4, 12);
  });
  it("samples have its moments, and the temperature multiplies their spread", () => {
    const density = new Density("gaussian", 1, [
      { weight: 1, mean: Float64Array.from([3]), root: Float64Array.from([2]) },
    ]);
    for (const temperature of [0, 1, 1.5]) {
      const source = random();
      const values = Array.from({ length: 4000 }, () => density.sample(source, temperature)[0]);
      const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
      const spread = Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length);
      expect(Math.abs(mean - 3)).toBeLessThan(0.15);
      expect(Math.abs(spread - 2 * temperature)).toBeLessThan(0.1);
    }
  });
  it("is read from JSON, and refused by name", () => {
    const given = {
      kinds: { normal: { latent_dim: 1 }, gaussian: { mean: [0], cholesky: [[2]] } },
      default: "gaussian",
    };
    const found = parseDensities(given, 1);
    expect(found.default).toBe("gaussian");
    expect(found.kinds.get("gaussian")!.logProb([0])).toBeCloseTo(-Math.log(2) - 0.5 * Math.log(2 * Math.PI), 12);
    expect(() => parseDensities(given, 2)).toThrow(/density.json does not hold densities of codes of 2 numbers/);
    expect(() => parseDensities({}, 2)).toThrow(Told);
  });
  it("ranks a code among the real ones", () => {
    const ranking = new Ranking(standardNormal(1), Float32Array.from([0, 1, 2, 3]));
    expect(ranking.share(standardNormal(1).logProb([0.5]))).toBe(0.75);
    expect(ranking.share(-1e9)).toBe(0);
  });
});

describe("MAP", () => {
  // With a linear decoder x = W z + b it is ridge regression, which has a closed form.
  const [size, dim, sigma] = [12, 3, 0.2];
  const source = random();
  const weights = Float64Array.from({ length: size * dim }, () => source.normal());
  const offset = Float64Array.from({ length: size }, () => source.normal());
  const decode = async (codes: Float32Array, count: number) =>
    Float32Array.from({ length: count * size }, (_, at) => {
      const [row, i] = [Math.floor(at / size), at % size];
      let sum = offset[i];
      for (let j = 0; j < dim; j++) sum += weights[i * dim + j] * codes[row * dim + j];
      return sum;
    });
  const measured = Float32Array.from({ length: size }, () => source.normal());
  const base = { decode, measured, seen: null, sigma, prior: standardNormal(dim), scale: [1, 1, 1] };

  function ridge(seen: Float32Array | null): Float64Array {
    const matrix = new Float64Array(dim * dim);
    const right = new Float64Array(dim);
    for (let i = 0; i < size; i++) {
      if (seen !== null && seen[i] === 0) continue;
      for (let j = 0; j < dim; j++) {
        right[j] += (weights[i * dim + j] * (measured[i] - offset[i])) / sigma ** 2;
        for (let k = 0; k < dim; k++) matrix[j * dim + k] += (weights[i * dim + j] * weights[i * dim + k]) / sigma ** 2;
      }
    }
    for (let j = 0; j < dim; j++) matrix[j * dim + j] += 1;
    const root = cholesky(matrix, dim)!;
    return solveUpper(root, solveLower(root, right, dim), dim);
  }

  it("equals ridge regression where the decoder is linear", async () => {
    const found = await solve(base, Float32Array.from([3, -2, 1]));
    ridge(null).forEach((value, j) => expect(found.code[j]).toBeCloseTo(value, 3));
    expect(found.converged).toBe(true);
  });
  it("leaves missing pixels out", async () => {
    const seen = Float32Array.from({ length: size }, (_, i) => (i < 8 ? 1 : 0));
    const hidden = measured.map((value, i) => value * seen[i]);
    const found = await solve({ ...base, measured: hidden, seen }, new Float32Array(dim));
    ridge(seen).forEach((value, j) => expect(found.code[j]).toBeCloseTo(value, 3));
  });
  it("never rises, and ends no higher than it began even where nothing is gained", async () => {
    const found = await solve(
      {
        ...base,
        prior: new Density("mixture", 3, [
          { weight: 1, mean: new Float64Array(3), root: Float64Array.from([1, 0, 0, 0, 1, 0, 0, 0, 1]) },
        ]),
      },
      Float32Array.from([9, 9, 9]),
    );
    found.path.slice(1).forEach((value, k) => expect(value).toBeLessThan(found.path[k]));
    const again = await solve(base, found.code);
    expect(again.objective).toBeLessThanOrEqual(objective(base, found.code, await decode(found.code, 1)));
  });
  it("stops when it is told to", async () => {
    const found = await solve(base, Float32Array.from([3, -2, 1]), { onStep: (path) => path.length < 2 });
    expect(found.path.length).toBeLessThanOrEqual(2);
  });
});

describe("neighbours", () => {
  it("are those that sorting all distances finds", () => {
    const source = random();
    const codes = Float32Array.from({ length: 300 * 4 }, () => source.normal());
    const code = codes.slice(40, 44);
    const distance = (i: number) => Math.hypot(...[0, 1, 2, 3].map((j) => codes[4 * i + j] - code[j]));
    const wanted = Array.from({ length: 300 }, (_, i) => i)
      .filter((i) => i !== 10)
      .sort((a, b) => distance(a) - distance(b));
    expect(nearest(codes, code, 7, 10).map(({ index }) => index)).toEqual(wanted.slice(0, 7));
    expect(nearest(codes, code, 1)[0]).toEqual({ index: 10, distance: 0 });
  });
  it("shares leave unlabelled points out and add up to 1", () => {
    expect([...shares([0, 1, -1, 1], [0, 1, 2, 3], 2)].map((value) => Math.round(300 * value))).toEqual([100, 200]);
  });
});

describe("walks", () => {
  it("begin and end at their ends", () => {
    for (const way of ["straight", "spherical"] as const) {
      const [a, b] = [Float32Array.from([1, 0, 2]), Float32Array.from([-1, 3, 1])];
      between(a, b, 0, way).forEach((value, i) => expect(value).toBeCloseTo(a[i], 6));
      between(a, b, 1, way).forEach((value, i) => expect(value).toBeCloseTo(b[i], 6));
    }
  });
  it("on the sphere keep the length of ends of one length, and are straight where there is no circle", () => {
    const middle = between([1, 0], [0, 1], 0.5, "spherical");
    expect(Math.hypot(...middle)).toBeCloseTo(1, 6);
    expect([...between([1, 0], [-1, 0], 0.25, "spherical")]).toEqual([0.5, 0]);
    expect([...between([0, 0], [2, 0], 0.5, "spherical")]).toEqual([1, 0]);
  });
});

describe("damage", () => {
  const shape = [1, 8, 8] as const;
  it("hides a square of the side asked for, and nothing at 0", () => {
    const seen = maskOf(shape, { share: 0.5, x: 0.5, y: 0.5 })!;
    expect(seen.reduce((sum, value) => sum + value, 0)).toBe(64 - 16);
    expect(maskOf(shape, { share: 0, x: 0.5, y: 0.5 })).toBeNull();
    expect(maskOf(shape, { share: 0.5, x: 1, y: 1 })!.reduce((sum, value) => sum + value, 0)).toBe(48);
  });
  it("adds noise of its standard deviation, the same for one seed", () => {
    const image = new Float32Array(4000);
    const noisy = degrade(image, null, 0.25, new Random(3));
    expect(Math.sqrt(mse(noisy, image))).toBeCloseTo(0.25, 1);
    expect(degrade(image, null, 0.25, new Random(3))).toEqual(noisy);
    expect(degrade(image, null, 0, new Random(3))).toEqual(image);
  });
  it("a blur leaves a flat image as it is", () => {
    blur(new Float32Array(48).fill(0.7), 6, 8, 2).forEach((value) => expect(value).toBeCloseTo(0.7, 6));
  });
  it("a guess keeps seen pixels and fills the others from near ones", () => {
    const seen = maskOf(shape, { share: 0.25, x: 0.5, y: 0.5 })!;
    const image = new Float32Array(64).fill(0.6);
    const found = guess(degrade(image, seen, 0, random()), seen, shape);
    found.forEach((value) => expect(value).toBeCloseTo(0.6, 5));
  });
  it("PSNR of a difference of 0.1 everywhere is 20 dB", () => {
    expect(psnr(new Float32Array(9), new Float32Array(9).fill(0.1))).toBeCloseTo(20, 5);
  });
});
