/**
 * Damage on purpose, y = A x + noise: noise of a known standard deviation, and a square that is erased.
 *
 * Images are (C, H, W); a mask is (H, W), 1 where seen and 0 where missing, for all channels.
 */
import type { Random } from "./random";

export type Shape = readonly [number, number, number];

/** A square of side `share` of the shorter side, its middle at (x, y) in [0, 1]; null where nothing is hidden. */
export interface Erased {
  share: number;
  x: number;
  y: number;
}

export function maskOf(shape: Shape, erased: Erased): Float32Array | null {
  const [, height, width] = shape;
  const side = Math.round(erased.share * Math.min(height, width));
  if (side < 1) return null;
  const place = (middle: number, all: number) =>
    Math.min(all - Math.min(side, all), Math.max(0, Math.round(middle * all - side / 2)));
  const [left, top] = [place(erased.x, width), place(erased.y, height)];
  const seen = new Float32Array(height * width).fill(1);
  for (let y = top; y < Math.min(top + side, height); y++)
    seen.fill(0, y * width + left, y * width + Math.min(left + side, width));
  return seen;
}

/** A x + noise; the noise is not clipped, and missing pixels are 0. */
export function degrade(image: Float32Array, seen: Float32Array | null, sigma: number, random: Random): Float32Array {
  const noisy = sigma > 0 ? image.map((value) => value + sigma * random.normal()) : image.slice();
  if (seen !== null) for (let i = 0; i < noisy.length; i++) noisy[i] *= seen[i % seen.length];
  return noisy;
}

/** Missing pixels filled with the mean of the seen ones near them, weighted by a Gaussian of 2 pixels, as in Python. */
export function guess(measured: Float32Array, seen: Float32Array | null, shape: Shape): Float32Array {
  if (seen === null) return measured;
  const [channels, height, width] = shape;
  const size = height * width;
  const weight = blur(seen, height, width, 2);
  const all = seen.reduce((sum, value) => sum + value, 0);
  const found = measured.slice();
  for (let c = 0; c < channels; c++) {
    const channel = measured.subarray(c * size, (c + 1) * size).map((value, i) => value * seen[i]);
    const mean = channel.reduce((sum, value) => sum + value, 0) / Math.max(all, 1);
    const near = blur(channel, height, width, 2);
    for (let i = 0; i < size; i++) {
      if (seen[i] === 0) found[c * size + i] = weight[i] > 1e-3 ? near[i] / weight[i] : mean;
    }
  }
  return found;
}

/** Gaussian blur of (H, W), `sigma` in pixels; at the border its weights are made to add up to one. */
export function blur(image: Float32Array, height: number, width: number, sigma: number): Float32Array {
  const along = (given: Float32Array, rows: number, columns: number) => {
    const found = new Float32Array(given.length); // transposed, so that the same is done to columns next
    const reach = Math.ceil(4 * sigma);
    for (let x = 0; x < columns; x++) {
      const from = Math.max(0, x - reach);
      const to = Math.min(columns - 1, x + reach);
      const weights = Array.from({ length: to - from + 1 }, (_, k) => Math.exp(-0.5 * ((from + k - x) / sigma) ** 2));
      const total = weights.reduce((sum, value) => sum + value, 0);
      for (let y = 0; y < rows; y++) {
        let sum = 0;
        for (let k = 0; k < weights.length; k++) sum += weights[k] * given[y * columns + from + k];
        found[x * rows + y] = sum / total;
      }
    }
    return found;
  };
  return along(along(image, height, width), width, height);
}

/** Mean square of a difference. */
export function mse(a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] - b[i]) ** 2;
  return sum / a.length;
}

/** 10 log10(1 / mse), in decibels, at most 100. */
export function psnr(a: Float32Array, b: Float32Array): number {
  return Math.min(100, -10 * Math.log10(Math.max(mse(a, b), 1e-10)));
}
