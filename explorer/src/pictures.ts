/** Images (C, H, W) in [0, 1] on canvases, one pixel for one; the style sheet enlarges them without smoothing. */
import { heat } from "./colours";
import { h } from "./dom";
import type { Shape } from "./degrade";

/** A picture with its name below; "" for none. */
export function picture(
  shape: Shape,
  name: string,
  extra: Record<string, string> = {},
): { element: HTMLElement; canvas: HTMLCanvasElement } {
  const canvas = h("canvas", {
    class: "picture",
    width: shape[2],
    height: shape[1],
    role: "img",
    "aria-label": name,
    ...extra,
  });
  const element = name === "" ? canvas : h("figure", { class: "pictured" }, canvas, h("figcaption", {}, name));
  return { element, canvas };
}

/** Draw one image; more than three channels are shown as their first. */
export function draw(canvas: HTMLCanvasElement, pixels: Float32Array, shape: Shape): void {
  put(canvas, shape, toBytes(pixels, shape));
}

export function toBytes(
  pixels: Float32Array,
  [channels, height, width]: Shape,
  begin = 0,
): Uint8ClampedArray<ArrayBuffer> {
  const size = height * width;
  const bytes = new Uint8ClampedArray(4 * size);
  const [g, b] = channels >= 3 ? [size, 2 * size] : [0, 0];
  for (let i = 0; i < size; i++) {
    bytes[4 * i] = 255 * pixels[begin + i];
    bytes[4 * i + 1] = 255 * pixels[begin + i + g];
    bytes[4 * i + 2] = 255 * pixels[begin + i + b];
    bytes[4 * i + 3] = 255;
  }
  return bytes;
}

/** |a - b|, the mean over channels, bright where it is large; `full` is the error of the brightest. */
export function drawError(canvas: HTMLCanvasElement, a: Float32Array, b: Float32Array, shape: Shape, full = 0.5): void {
  const [channels, height, width] = shape;
  const size = height * width;
  const bytes = new Uint8ClampedArray(4 * size);
  for (let i = 0; i < size; i++) {
    let sum = 0;
    for (let c = 0; c < channels; c++) sum += Math.abs(a[c * size + i] - b[c * size + i]) / channels;
    bytes.set([...heat(sum / full), 255], 4 * i);
  }
  put(canvas, shape, bytes);
}

/** Nothing yet. */
export function clear(canvas: HTMLCanvasElement): void {
  canvas.getContext("2d")?.clearRect(0, 0, canvas.width, canvas.height);
}

function put(canvas: HTMLCanvasElement, [, height, width]: Shape, bytes: Uint8ClampedArray<ArrayBuffer>): void {
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  canvas.getContext("2d")?.putImageData(new ImageData(bytes, width, height), 0, 0);
}
